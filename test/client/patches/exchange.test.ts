import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inTurn } from '../../../src/client/patches/lock.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { displacedIn } from '../../../src/patch/displaced.ts';
import { MAX_NEW_FILES } from '../../../src/patch/holds.ts';
import { readMadeBy } from '../../../src/patch/made-by.ts';
import { snapshotTree } from '../../../src/patch/snapshot.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { commitAll, fingerprint, gitIn, makeDirty, put, snapshotWish, ZONE } from '../../patch/ground.ts';
import { CHOICE, freely, makeTwoSides, placeAt, queueState, stepped, type TwoSides } from './two-sides.ts';

let sides: TwoSides;
const start = async (prepare?: (root: string) => void): Promise<void> => {
  sides = await makeTwoSides(prepare);
};
beforeEach(() => start((root) => put(root, 'long.txt', lines())));
afterEach(() => sides.remove());

const lines = (changed: Record<number, string> = {}): string =>
  Array.from({ length: 30 }, (_, n) => `${changed[n] ?? `line ${n}`}\n`).join('');
const near = (path: string): string => readFileSync(join(sides.near, path), 'utf8');
const far = (path: string): string => readFileSync(join(sides.far, path), 'utf8');
const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));
const syncNow = async () => stepped(await sync(sides.place, sides.link, freely));
const filesOf = (root: string): string[] =>
  fingerprint(root, (path) => path.endsWith('/.git') || path.endsWith('/.khlone')).map((line) =>
    line.slice(root.length),
  );

describe('a pull', () => {
  it('brings every kind of change, and then both sides are the same', async () => {
    makeDirty(sides.far);
    rmSync(join(sides.far, 'ignored.log'));
    const { refused, done } = await pullNow();
    expect(refused).toEqual([]);
    expect(done.length).toBeGreaterThan(10);
    expect(filesOf(sides.near)).toEqual(filesOf(sides.far));
    expect((await pullNow()).done).toEqual([]);
    expect((await syncNow()).done).toEqual([]);
  });

  it('merges lines that both sides changed in one file', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    put(sides.far, 'long.txt', lines({ 20: 'far' }));
    await pullNow();
    expect(near('long.txt')).toBe(lines({ 2: 'near', 20: 'far' }));
    expect(far('long.txt')).toBe(lines({ 20: 'far' }));
    await syncNow();
    expect(far('long.txt')).toBe(lines({ 2: 'near', 20: 'far' }));
  });

  it('leaves a conflict as it is on both sides, brings the rest, and says the same the next time', async () => {
    put(sides.near, 'long.txt', lines({ 5: 'near' }));
    put(sides.far, 'long.txt', lines({ 5: 'far' }));
    put(sides.far, 'kept.txt', 'far\n');
    const first = await pullNow();
    expect(first.meeting.merge.conflicts.map(({ paths }) => paths)).toEqual([['long.txt']]);
    expect([near('long.txt'), far('long.txt')]).toEqual([lines({ 5: 'near' }), lines({ 5: 'far' })]);
    expect(near('kept.txt')).toBe('far\n');
    const [before, kept] = [filesOf(sides.near), (await readState(join(sides.near, '.git'), ZONE)).conflicts];
    const second = await pullNow();
    expect(second.done).toEqual([]);
    expect(filesOf(sides.near)).toEqual(before);
    expect((await readState(join(sides.near, '.git'), ZONE)).conflicts).toEqual(kept);
    await syncNow();
    expect(far('long.txt')).toBe(lines({ 5: 'far' }));
  });

  it('keeps the bytes it displaces', async () => {
    put(sides.near, 'kept.txt', 'mine, never committed\n');
    await syncNow();
    put(sides.far, 'kept.txt', 'theirs\n');
    await pullNow();
    expect(near('kept.txt')).toBe('theirs\n');
    const all = await displacedUnder(join(sides.near, '.git/khlone/displaced'));
    expect(all).toContain('mine, never committed\n');
  });

  it('whose line breaks once the files are here says what came', async () => {
    put(sides.far, 'made.txt', 'far\n');
    const lost: TwoSides['link'] = {
      ...sides.link,
      agree: () => Promise.reject(new KhloneError('unreachable', 'the connection ended')),
    };
    expect(stepped(await pull(sides.place, lost, freely)).done).toEqual(['made.txt']);
    expect(stepped(await pull(sides.place, sides.link, freely)).isClear).toBe(true);
  });

  it('changes neither index, HEAD nor refs of either side', async () => {
    const facts = (root: string) => [
      readFileSync(join(root, '.git/index')).toString('hex'),
      gitIn(root, 'rev-parse', 'HEAD'),
      gitIn(root, 'for-each-ref'),
      readFileSync(join(root, '.git/config'), 'utf8'),
    ];
    const before = [facts(sides.near), facts(sides.far)];
    put(sides.near, 'kept.txt', 'near\n');
    put(sides.far, 'edited.txt', 'far\n');
    await pullNow();
    await syncNow();
    expect([facts(sides.near), facts(sides.far)]).toEqual(before);
  });
});

const displacedUnder = async (keep: string): Promise<string[]> => {
  const found = await Promise.all(readdirSync(keep).map((name) => displacedIn(join(keep, name))));
  return found.flat().map(({ kept }) => readFileSync(kept, 'utf8'));
};

describe('a sync', () => {
  it('sends more new files than travel at once when their folder is named', async () => {
    for (let n = 0; n <= MAX_NEW_FILES; n += 1) put(sides.near, `many/${n}`, '');
    put(sides.near, 'beside', 'x\n');
    const first = await syncNow();
    expect(first.done).toEqual([]);
    expect(first.meeting.plan.held).toHaveLength(MAX_NEW_FILES + 2);
    const named = stepped(await sync(sides.place, sides.link, { ...freely, files: ['many'] }));
    expect(named.done).toHaveLength(MAX_NEW_FILES + 1);
    expect((await syncNow()).done).toEqual(['beside']);
  });

  it('sends every kind of change, and leaves what only the zone has', async () => {
    put(sides.far, 'from-far.txt', 'theirs\n');
    makeDirty(sides.near);
    rmSync(join(sides.near, 'ignored.log'));
    const { refused } = await syncNow();
    expect(refused).toEqual([]);
    expect(far('from-far.txt')).toBe('theirs\n');
    await pullNow();
    expect(filesOf(sides.near)).toEqual(filesOf(sides.far));
  });

  it('leaves a path that a clone changes while it arrives, and settles it at the next exchange', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    put(sides.near, 'edited.txt', 'near\n');
    const link = {
      ...sides.link,
      apply: (...args: Parameters<typeof sides.link.apply>) => {
        put(sides.far, 'kept.txt', 'far\n');
        return sides.link.apply(...args);
      },
    };
    const { refused } = stepped(await sync(sides.place, link, freely));
    expect(refused.map(({ path }) => path)).toEqual(['kept.txt']);
    expect([far('kept.txt'), far('edited.txt')]).toEqual(['far\n', 'near\n']);
    const { meeting } = await pullNow();
    expect(meeting.merge.conflicts.map(({ paths }) => paths)).toEqual([['kept.txt']]);
    expect([near('kept.txt'), far('kept.txt')]).toEqual(['near\n', 'far\n']);
  });

  it('does not overwrite what a pull has not brought yet', async () => {
    put(sides.far, 'long.txt', lines({ 20: 'far' }));
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    await syncNow();
    expect(far('long.txt')).toBe(lines({ 2: 'near', 20: 'far' }));
    expect(near('long.txt')).toBe(lines({ 2: 'near' }));
    await pullNow();
    expect(near('long.txt')).toBe(lines({ 2: 'near', 20: 'far' }));
  });

  it('whose answer was lost is not taken for a conflict with what came after it', async () => {
    put(sides.near, 'long.txt', lines({ 5: 'near' }));
    const link = {
      ...sides.link,
      apply: async (...args: Parameters<typeof sides.link.apply>) => {
        await sides.link.apply(...args);
        throw new Error('the link was cut');
      },
    };
    await expect(sync(sides.place, link, freely)).rejects.toThrow('cut');
    put(sides.far, 'long.txt', lines({ 5: 'near, then far' }));
    const { meeting } = await pullNow();
    expect(meeting.merge.conflicts).toEqual([]);
    expect(near('long.txt')).toBe(lines({ 5: 'near, then far' }));
  });

  it('that never arrived is made again', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const link = { ...sides.link, apply: () => Promise.reject(new Error('cut')) };
    await expect(sync(sides.place, link, freely)).rejects.toThrow('cut');
    await syncNow();
    expect(far('kept.txt')).toBe('near\n');
  });

  it('of a state that was queued sends that state, not the present one', async () => {
    put(sides.near, 'kept.txt', 'queued\n');
    const { tree } = await snapshotTree({
      ...sides.place.repository,
      shadowDir: join(sides.near, '.git/khlone/shadow.git'),
      deadlineMs: 60_000,
    });
    put(sides.near, 'kept.txt', 'later\n');
    await sync(sides.place, sides.link, { ...freely, localTree: tree });
    expect(far('kept.txt')).toBe('queued\n');
    await syncNow();
    expect(far('kept.txt')).toBe('later\n');
  });
});

describe('a state that was queued', () => {
  const queueNow = () => queueState(sides);

  it('does not take back in the zone what a pull brought since', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    const tree = await queueNow();
    put(sides.far, 'kept.txt', 'far\n');
    put(sides.far, 'long.txt', lines({ 20: 'far' }));
    rmSync(join(sides.far, 'deleted.txt'));
    await pullNow();
    put(sides.near, 'long.txt', lines({ 2: 'near, later', 20: 'far' }));
    stepped(await sync(sides.place, sides.link, { ...freely, localTree: tree }));
    expect(existsSync(join(sides.far, 'deleted.txt'))).toBe(false);
    put(sides.near, 'deleted.txt', 'gone soon\n');
    expect([far('kept.txt'), far('long.txt')]).toEqual(['far\n', lines({ 2: 'near', 20: 'far' })]);
    const { meeting } = await pullNow();
    expect(meeting.merge.conflicts).toEqual([]);
    expect(near('deleted.txt')).toBe('gone soon\n');
    await syncNow();
    expect(far('deleted.txt')).toBe('gone soon\n');
    expect([far('long.txt'), near('long.txt')]).toEqual([
      lines({ 2: 'near, later', 20: 'far' }),
      lines({ 2: 'near, later', 20: 'far' }),
    ]);
  });
});

describe('a file that rules cover on one side', () => {
  it('and the other has is not taken for deleted', async () => {
    put(sides.near, 'ignored.log', 'added by force\n');
    gitIn(sides.near, 'add', '-f', 'ignored.log');
    await syncNow();
    expect(far('ignored.log')).toBe('added by force\n');
    expect((await pullNow()).done).toEqual([]);
    expect(near('ignored.log')).toBe('added by force\n');
    put(sides.far, 'ignored.log', 'edited there\n');
    await pullNow();
    expect(near('ignored.log')).toBe('edited there\n');
  });

  it('stays in the zone when it is ignored here later, and its new bytes stay here', async () => {
    put(sides.near, 'notes.txt', 'shared\n');
    await syncNow();
    put(sides.near, '.gitignore', 'ignored*\nnotes.txt\n');
    put(sides.near, 'notes.txt', 'private\n');
    await syncNow();
    expect([far('.gitignore'), far('notes.txt')]).toEqual(['ignored*\nnotes.txt\n', 'shared\n']);
    expect((await pullNow()).done).toEqual([]);
    expect(near('notes.txt')).toBe('private\n');
  });

  it('and that grew over the limit there is not taken for deleted', async () => {
    put(sides.near, 'data.bin', 'small\n');
    await syncNow();
    put(sides.far, 'data.bin', Buffer.alloc(CHOICE.maxFileBytes + 1));
    expect((await pullNow()).done).toEqual([]);
    expect(near('data.bin')).toBe('small\n');
  });
});

it('a conflict that waits is not decided anew once the folder that was renamed beside it is on both sides', async () => {
  sides.remove();
  await start((root) => {
    for (const name of ['a', 'b', 'c']) put(root, `d/${name}`, lines({ 1: name, 2: name, 3: name }));
  });
  renameSync(join(sides.near, 'd'), join(sides.near, 'e'));
  put(sides.far, 'd/new', 'far\n');
  const { meeting } = await pullNow();
  expect(meeting.merge.conflicts.map(({ paths }) => paths)).toEqual([['d/new']]);
  await syncNow();
  expect(existsSync(join(sides.far, 'e/a'))).toBe(true);
  const again = await pullNow();
  expect([again.done, again.meeting.merge.conflicts.map(({ id }) => id)]).toEqual([
    [],
    meeting.merge.conflicts.map(({ id }) => id),
  ]);
});

describe('two worktrees on one zone', () => {
  it('of which one was copied while an exchange held its lock do not wait for each other', async () => {
    const copy = join(sides.dir, 'copy');
    await inTurn(sides.place.repository.gitDir, async () => {
      cpSync(sides.near, copy, { recursive: true });
    });
    expect(existsSync(join(copy, '.git/khlone/lock'))).toBe(true);
    put(copy, 'kept.txt', 'copy\n');
    await sync(placeAt(copy), sides.link, freely);
    expect(far('kept.txt')).toBe('copy\n');
  });

  it('that were copied from each other never undo each other', async () => {
    const copy = join(sides.dir, 'copy');
    cpSync(sides.near, copy, { recursive: true });
    put(sides.near, 'kept.txt', 'original\n');
    await syncNow();
    put(copy, 'edited.txt', 'copy\n');
    await sync(placeAt(copy), sides.link, freely);
    expect([far('kept.txt'), far('edited.txt')]).toEqual(['original\n', 'copy\n']);
    await pull(placeAt(copy), sides.link, freely);
    await pullNow();
    expect(filesOf(sides.near)).toEqual(filesOf(copy));
    expect(filesOf(sides.near)).toEqual(filesOf(sides.far));
  });

  it('of which one is restored from a backup take two ids', async () => {
    const backup = join(sides.dir, 'backup');
    cpSync(sides.near, backup, { recursive: true });
    put(sides.near, 'kept.txt', 'before the crash\n');
    await syncNow();
    rmSync(sides.near, { recursive: true });
    renameSync(backup, sides.near);
    put(sides.near, 'edited.txt', 'after the crash\n');
    await syncNow();
    expect([far('kept.txt'), far('edited.txt')]).toEqual(['before the crash\n', 'after the crash\n']);
    await pullNow();
    expect(near('kept.txt')).toBe('before the crash\n');
  });

  it('that were cloned apart begin with the commit they share', async () => {
    const other = join(sides.dir, 'other');
    gitIn(sides.dir, 'clone', '-q', sides.near, other);
    put(other, 'kept.txt', 'other\n');
    put(sides.far, 'edited.txt', 'far\n');
    const place = placeAt(other);
    const { meeting } = stepped(await pull(place, sides.link, freely));
    expect(meeting.merge.conflicts).toEqual([]);
    expect(readFileSync(join(other, 'edited.txt'), 'utf8')).toBe('far\n');
    await sync(place, sides.link, freely);
    expect(far('kept.txt')).toBe('other\n');
  });
});

it('finds its way after the user’s own clean-up and new history', async () => {
  put(sides.near, 'kept.txt', 'near\n');
  await syncNow();
  commitAll(sides.near, 'work');
  gitIn(sides.near, 'commit', '-q', '--amend', '-m', 'again');
  gitIn(sides.near, 'reflog', 'expire', '--expire=now', '--all');
  gitIn(sides.near, 'gc', '-q', '--prune=now');
  put(sides.far, 'edited.txt', 'far\n');
  const { meeting } = await pullNow();
  expect(meeting.merge.conflicts).toEqual([]);
  expect(near('edited.txt')).toBe('far\n');
  expect(existsSync(join(sides.near, 'kept.txt'))).toBe(true);
});

describe('what a removal of the zone would not lose', () => {
  const settled = async () => (await readMadeBy(sides.far))?.tree;
  const treeHere = async () =>
    snapshotTree({ ...snapshotWish(sides.near), choice: CHOICE }).then(({ tree }) => tree);

  it('is what both sides have after a pull or a sync, and nothing that only the zone has', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    await syncNow();
    expect(await settled()).toBe(await treeHere());
    put(sides.far, 'kept.txt', 'far\n');
    await pullNow();
    expect(await settled()).toBe(await treeHere());
    const before = await settled();
    put(sides.far, 'run.sh', 'of the zone\n');
    put(sides.near, 'kept.txt', 'near again\n');
    await syncNow();
    expect(far('kept.txt')).toBe('near again\n');
    expect(await settled()).toBe(before);
  });

  it('is nothing of a sync that the zone did not take in whole', async () => {
    const before = await settled();
    put(sides.near, 'kept.txt', 'near\n');
    const { apply } = sides.link;
    sides.link.apply = (...words) => {
      put(sides.far, 'kept.txt', 'far, meanwhile\n');
      return apply(...words);
    };
    expect((await syncNow()).refused.map(({ path }) => path)).toEqual(['kept.txt']);
    expect(await settled()).toBe(before);
  });
});
