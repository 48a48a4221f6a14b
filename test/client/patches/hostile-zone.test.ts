import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { readReceipts } from '../../../src/server/patch-receipts.ts';
import { bytesOf, once, put, ZONE } from '../../patch/ground.ts';
import { contentsOf, momentOf, nearSide } from './invariants.ts';
import { filesIn } from './random-edits.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** A line that breaks bytes, a zone that lies, and clones that write where a server writes. */

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides();
});
afterEach(() => sides.remove());

const near = (path: string): string => readFileSync(join(sides.near, path), 'utf8');
const far = (path: string): string => readFileSync(join(sides.far, path), 'utf8');
const syncBy = async (link: Far) => stepped(await sync(sides.place, link, freely));
const pullBy = async (link: Far) => stepped(await pull(sides.place, link, freely));

type Change = Parameters<Far['apply']>[0];
type Mangle = (bytes: Buffer) => Buffer;
const MANGLES: Record<string, Mangle> = {
  'is cut': (bytes) => bytes.subarray(0, bytes.length - 3),
  'is dropped': () => Buffer.alloc(0),
  'comes twice': (bytes) => Buffer.concat([bytes, bytes]),
  'has a flipped bit': (bytes) => {
    const copy = Buffer.from(bytes);
    copy[copy.length >> 1] = (copy[copy.length >> 1] ?? 0) ^ 4;
    return copy;
  },
};

describe.each(Object.entries(MANGLES))('a payload that %s', (_, mangle) => {
  it('is refused by the zone, and the next step works', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const link: Far = {
      ...sides.link,
      apply: async (change, payload) => sides.link.apply(change, once(mangle(await bytesOf(payload)))),
    };
    const before = contentsOf(sides.far);
    await expect(syncBy(link)).rejects.toMatchObject({ code: 'conflict' });
    expect(contentsOf(sides.far)).toEqual(before);
    expect((await syncBy(sides.link)).done).toEqual(['kept.txt']);
    expect(far('kept.txt')).toBe('near\n');
  });

  it('is refused here, and the next step works', async () => {
    put(sides.far, 'kept.txt', 'far\n');
    const link: Far = {
      ...sides.link,
      look: async (wish) => {
        const { answer, body } = await sides.link.look(wish);
        return body ? { answer, body: once(mangle(await bytesOf(body))) } : { answer };
      },
    };
    const before = momentOf(nearSide(sides.near));
    await expect(pullBy(link)).rejects.toMatchObject({ code: 'conflict' });
    expect(momentOf(nearSide(sides.near))).toEqual(before);
    expect((await pullBy(sides.link)).done).toEqual(['kept.txt']);
  });
});

/** A link that remembers what was sent. */
const recording = () => {
  const sent: { change: Change; bytes: Buffer }[] = [];
  const link: Far = {
    ...sides.link,
    apply: async (change, payload) => {
      const bytes = await bytesOf(payload);
      sent.push({ change, bytes });
      return sides.link.apply(change, once(bytes));
    },
  };
  return { sent, link };
};

it('a change that arrives twice, late or in another order takes effect once', async () => {
  const { sent, link } = recording();
  for (const text of ['first\n', 'second\n']) {
    put(sides.near, 'kept.txt', text);
    await syncBy(link);
  }
  const [first, second] = sent;
  if (!first || !second) throw new Error('two changes were to be sent');
  put(sides.far, 'kept.txt', 'first\n');
  const again = await sides.link.apply(second.change, once(second.bytes));
  expect(again.answer).toMatchObject({ repeated: true });
  expect((await sides.link.apply(first.change, once(first.bytes))).answer).toMatchObject({
    done: 0,
    copied: true,
  });
  expect(far('kept.txt')).toBe('first\n');
  const ahead = { ...first.change, seq: 99 };
  await sides.link.apply(ahead, once(first.bytes)).catch(() => undefined);
  expect(far('kept.txt')).toBe('first\n');
  await pullBy(sides.link);
  expect(near('kept.txt')).toBe('first\n');
});

describe('a zone that lies', () => {
  const lying = (
    change: (answer: Awaited<ReturnType<Far['look']>>) => Awaited<ReturnType<Far['look']>>,
  ): Far => ({
    ...sides.link,
    look: async (wish) => change(await sides.link.look(wish)),
  });
  const OTHER = 'a'.repeat(40);

  it.each<[string, Parameters<typeof lying>[0]]>([
    ['about its state', ({ answer, ...rest }) => ({ answer: { ...answer, tree: OTHER }, ...rest })],
    [
      'by sending nothing',
      ({ answer: { envelope: _, ...answer } }) => ({ answer: { ...answer, tree: OTHER } }),
    ],
    [
      'about what its patch begins with',
      ({ answer, ...rest }) => ({
        answer: { ...answer, ...(answer.envelope && { envelope: { ...answer.envelope, base: OTHER } }) },
        ...rest,
      }),
    ],
    [
      'about the size',
      ({ answer, ...rest }) => ({
        answer: { ...answer, ...(answer.envelope && { envelope: { ...answer.envelope, bytes: 2 ** 50 } }) },
        ...rest,
      }),
    ],
  ])('%s changes nothing here', async (_, change) => {
    put(sides.far, 'kept.txt', 'far\n');
    const before = momentOf(nearSide(sides.near));
    await expect(pullBy(lying(change))).rejects.toMatchObject({ code: 'conflict' });
    expect(momentOf(nearSide(sides.near))).toEqual(before);
    await pullBy(sides.link);
    expect(near('kept.txt')).toBe('far\n');
  });

  it('and refuses a million paths that were not sent is not believed', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const why = '\u001b[31mred\u0007';
    const refused = Array.from({ length: 1_000_000 }, (_, n) => ({ path: `../\u001b]0;${n}`, why }));
    const link: Far = {
      ...sides.link,
      apply: async (...args) => ({ ...(await sides.link.apply(...args)), refused }),
    };
    const { done, refused: told } = await syncBy(link);
    expect([done, told]).toEqual([['kept.txt'], []]);
  });

  it('and refuses the state that it told is given up', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const answer = { done: 0, repeated: false, copied: false, changed: true };
    const link: Far = { ...sides.link, apply: () => Promise.resolve({ answer, refused: [] }) };
    await expect(syncBy(link)).rejects.toMatchObject({ code: 'conflict' });
    await syncBy(sides.link);
    expect(far('kept.txt')).toBe('near\n');
  });

  it('and always takes this worktree for a copy is given up', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const answer = { done: 0, repeated: false, copied: true };
    const link: Far = { ...sides.link, apply: () => Promise.resolve({ answer, refused: [] }) };
    await expect(syncBy(link)).rejects.toMatchObject({ code: 'conflict' });
    await syncBy(sides.link);
    expect(far('kept.txt')).toBe('near\n');
  });
});

describe('clones', () => {
  it('that lead folders elsewhere get nothing written there, nor anything of this side', async () => {
    const outside = join(sides.dir, 'outside');
    mkdirSync(outside);
    put(sides.near, 'folder/inner.txt', 'near\n');
    put(sides.near, 'folder/new.txt', 'near\n');
    const link: Far = {
      ...sides.link,
      apply: (...args) => {
        rmSync(join(sides.far, 'folder'), { recursive: true });
        symlinkSync(outside, join(sides.far, 'folder'));
        return sides.link.apply(...args);
      },
    };
    const { refused } = await syncBy(link);
    expect(refused.map(({ path }) => path).sort()).toEqual(['folder/inner.txt', 'folder/new.txt']);
    await pullBy(sides.link);
    expect(filesIn(outside)).toEqual([]);
    expect(near('folder/inner.txt')).toBe('near\n');
  });

  it('that write into the worktree, its .git and .khlone while a change arrives reach nothing of the server', async () => {
    const outside = join(sides.dir, 'outside');
    mkdirSync(outside);
    const kept = join(sides.patchPlace.zonesDir, ZONE, 'patches');
    // As fast as it can: links where folders are, forged journals, another git configuration.
    const program = `
      const fs = require('node:fs'), path = require('node:path');
      const [root, outside] = process.argv.slice(1);
      const tries = [
        () => { fs.rmSync(root + '/d', { recursive: true, force: true }); fs.symlinkSync(outside, root + '/d'); },
        () => { fs.rmSync(root + '/d', { recursive: true, force: true }); fs.mkdirSync(root + '/d'); },
        () => { fs.rmSync(root + '/.khlone', { recursive: true, force: true }); fs.symlinkSync(outside, root + '/.khlone'); },
        () => { fs.rmSync(root + '/.khlone', { recursive: true, force: true }); fs.mkdirSync(root + '/.khlone/displaced/x', { recursive: true });
          fs.symlinkSync(outside, root + '/.khlone/displaced/y');
          fs.writeFileSync(root + '/.khlone/displaced/x/journal.json', JSON.stringify({ version: 1, note: null, changes: [{ path: '../out' }] })); },
        () => fs.appendFileSync(root + '/.git/config', '[core]\\n\\tfsmonitor = touch ' + outside + '/ran\\n'),
        () => fs.writeFileSync(root + '/.git/index', 'broken'),
        () => fs.rmSync(root + '/.git/index', { force: true }),
      ];
      for (let n = 0; ; n += 1) { try { tries[n % tries.length](); } catch {} }`;
    const child = execFile(process.execPath, ['-e', program, sides.far, outside]);
    try {
      for (let n = 0; n < 6; n += 1) {
        for (const name of ['d/a.txt', 'd/e/b.txt', `new-${n}.txt`]) put(sides.near, name, `near ${n}\n`);
        // Any of them may be told to try again.
        await syncBy(sides.link).catch(() => undefined);
        await pullBy(sides.link).catch(() => undefined);
      }
    } finally {
      child.kill('SIGKILL');
    }
    expect(filesIn(outside)).toEqual([]);
    await expect(readReceipts(kept)).resolves.toBeInstanceOf(Array);
    rmSync(join(sides.far, '.khlone'), { recursive: true, force: true });
    rmSync(join(sides.far, '.git/index'), { force: true });
    writeFileSync(join(sides.far, '.git/config'), '[core]\n\trepositoryformatversion = 0\n');
    put(sides.near, 'last.txt', 'near\n');
    expect((await syncBy(sides.link)).done).toContain('last.txt');
  }, 120_000);
});
