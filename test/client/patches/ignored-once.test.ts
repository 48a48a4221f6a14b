import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readState, writeState, type ZoneState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { viewPatches } from '../../../src/client/patches/view.ts';
import { GONE_MS, heldOnce, MAX_GONE, MAX_HELD_ONCE } from '../../../src/patch/ignored.ts';
import { commitAll, gitIn, put, ZONE } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** What ignore rules covered until a pull changed them: held, and for how long it is remembered. */

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides((root) => put(root, '.gitignore', '*.dump\nout/\n'));
});
afterEach(() => sides.remove());

const gitDir = (): string => join(sides.near, '.git');
const stateNow = (): Promise<ZoneState> => readState(gitDir(), ZONE);
const heldPaths = async (): Promise<string[]> =>
  (await stateNow()).ignoredOnce.map(({ path }) => path).sort();
/** The zone writes other ignore rules, and a pull brings them. */
const pullRules = async (rules: string): Promise<void> => {
  put(sides.far, '.gitignore', rules);
  stepped(await pull(sides.place, sides.link, freely));
};
const syncAll = async (files?: string[]): Promise<void> =>
  void stepped(await sync(sides.place, sides.link, { ...freely, ...(files && { files }) }));
const isSent = (path: string): boolean => existsSync(join(sides.far, path));
const later = async (ms: number): Promise<void> => {
  const state = await stateNow();
  const ignoredOnce = state.ignoredOnce.map((one) =>
    one.goneMs === undefined ? one : { ...one, goneMs: one.goneMs - ms },
  );
  await writeState(gitDir(), ZONE, { ...state, ignoredOnce });
};

describe('a file that was ignored until a pull', () => {
  it('stays here though it is away while rules change, and comes back', async () => {
    put(sides.near, 'db.dump', 'private\n');
    await pullRules('out/\n');
    rmSync(join(sides.near, 'db.dump'));
    for (const rules of ['# other\n', '# another\n']) await pullRules(rules);
    put(sides.near, 'db.dump', 'private again\n');
    await syncAll();
    expect(isSent('db.dump')).toBe(false);
    await pullRules('# the last\n');
    expect((await stateNow()).ignoredOnce).toContainEqual({ path: 'db.dump', why: expect.any(String) });
  });

  it('is forgotten when it was away for a month', async () => {
    put(sides.near, 'db.dump', 'private\n');
    put(sides.near, 'out/x', 'made\n');
    await pullRules('# none\n');
    expect(await heldPaths()).toEqual(['db.dump', 'out/']);
    rmSync(join(sides.near, 'db.dump'));
    rmSync(join(sides.near, 'out'), { recursive: true });
    await pullRules('# other\n');
    expect(await heldPaths()).toEqual(['db.dump', 'out/']);
    await later(GONE_MS + 1000);
    await pullRules('# another\n');
    expect(await heldPaths()).toEqual([]);
  });

  it('travels from then on once a person named it', async () => {
    put(sides.near, 'db.dump', 'for all\n');
    put(sides.near, 'own.dump', 'private\n');
    await pullRules('out/\n');
    await syncAll(['db.dump']);
    expect(readFileSync(join(sides.far, 'db.dump'), 'utf8')).toBe('for all\n');
    put(sides.near, 'db.dump', 'edited\n');
    await syncAll();
    expect(readFileSync(join(sides.far, 'db.dump'), 'utf8')).toBe('edited\n');
    expect(isSent('own.dump')).toBe(false);
    expect(await heldPaths()).toEqual(['own.dump']);
  });

  it('travels from a folder that was ignored as a whole, and the rest of that stays', async () => {
    put(sides.near, 'out/shared', 'for all\n');
    put(sides.near, 'out/own', 'private\n');
    await pullRules('*.dump\n');
    await syncAll(['out/shared']);
    expect(readFileSync(join(sides.far, 'out/shared'), 'utf8')).toBe('for all\n');
    put(sides.near, 'out/shared', 'edited\n');
    put(sides.near, 'out/later', 'private, too\n');
    await pullRules('*.dump\n# other\n');
    await syncAll();
    expect(readFileSync(join(sides.far, 'out/shared'), 'utf8')).toBe('edited\n');
    expect([isSent('out/own'), isSent('out/later')]).toEqual([false, false]);
    await syncAll(['out']);
    expect([isSent('out/own'), isSent('out/later')]).toEqual([true, true]);
    expect(await heldPaths()).toEqual([]);
  });
});

const why = 'was ignored until a pull';
const path = fc.nat(30).map((n) => `p${n}`);
const paths = fc.uniqueArray(path);

it('what is held is not counted among what a sync would send', async () => {
  put(sides.near, '.env', 'of mine\n');
  gitIn(sides.near, 'add', '-f', '.env');
  commitAll(sides.near, 'a secret');
  const { held } = stepped(await sync(sides.place, sides.link, freely)).meeting.plan;
  expect(held.map(({ path }) => path)).toEqual(['.env']);
  expect(await viewPatches(sides.place, sides.link)).toMatchObject({ toSend: 0, toPull: 0 });
});

describe('what is held once', () => {
  it('is never less than what lies there and what is covered now, and each path once', () => {
    const known = fc.uniqueArray(
      fc.record({ path, why: fc.constant(why), goneMs: fc.option(fc.nat(), { nil: undefined }) }),
      {
        selector: (one) => one.path,
      },
    );
    fc.assert(
      fc.property(known, paths, paths, fc.nat(), (earlier, covered, away, nowMs) => {
        const now = covered.map((one) => ({ path: one, why }));
        const found = heldOnce(earlier, now, new Set(away), nowMs).map((one) => one.path);
        const there = earlier.map((one) => one.path).filter((one) => !away.includes(one));
        expect(found).toEqual(expect.arrayContaining([...there, ...covered]));
        expect(new Set(found).size).toBe(found.length);
      }),
    );
  });

  it('holds the last of those that are gone, up to its bound', () => {
    const known = Array.from({ length: MAX_GONE + 5 }, (_, n) => ({ path: `p${n}`, why, goneMs: n }));
    const found = heldOnce(known, [], new Set(known.map((one) => one.path)), GONE_MS);
    expect(found).toEqual(known.slice(5));
  });

  it('is refused with the next step where more lies there than can be held', () => {
    const now = Array.from({ length: MAX_HELD_ONCE + 1 }, (_, n) => ({ path: `p${n}`, why }));
    expect(() => heldOnce([], now, new Set(), 0)).toThrow('200001 ignored files');
    expect(heldOnce([], now.slice(1), new Set(), 0)).toHaveLength(MAX_HELD_ONCE);
  });
});
