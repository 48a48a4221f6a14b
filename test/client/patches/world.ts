import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { noteQueued, openGround, snapshotOf } from '../../../src/client/patches/ground.ts';
import { inTurn } from '../../../src/client/patches/lock.ts';
import { resolveConflict } from '../../../src/client/patches/resolve.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, type StepPlace, sync } from '../../../src/client/patches/steps.ts';
import { pin } from '../../../src/patch/pins.ts';
import { asKhloneError } from '../../../src/protocol/error.ts';
import { gitIn, put, ZONE } from '../../patch/ground.ts';
import {
  changedPaths,
  expectGitUntouched,
  expectNothingLost,
  expectStateWhole,
  farSide,
  type Moment,
  momentOf,
  nearSide,
  type Side,
} from './invariants.ts';
import { editAtRandom, filesIn, type Random } from './random-edits.ts';
import { CHOICE, freely, makeTwoSides, placeAt, stepped } from './two-sides.ts';

/** Several worktrees on one zone, edited at random, over a link that breaks; each step is checked before and after. */

export const CUT = 'the link was cut';
type Replica = { name: string; side: Side; place: StepPlace; queued: string[] };
const SECRET = 'secret-that-stays';

async function* half(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    yield piece.subarray(0, piece.length / 2);
    throw new Error(CUT);
  }
}

/** A link on which any call may break: before it is heard, in the middle of a body, or before its answer comes. */
const breaking = (link: Far, random: Random, share: number, onApply: () => void): Far => {
  const broken = async <T>(work: () => Promise<T>): Promise<T> => {
    if (random.chance(share)) throw new Error(CUT);
    const answer = await work();
    if (random.chance(share)) throw new Error(CUT);
    return answer;
  };
  return {
    look: (wish) =>
      broken(async () => {
        const { answer, body } = await link.look(wish);
        if (!body) return { answer };
        return { answer, body: random.chance(share) ? half(body) : body };
      }),
    apply: (change, payload) =>
      broken(() => {
        onApply();
        return link.apply(change, random.chance(share) ? half(payload) : payload);
      }),
    agree: (state) => broken(() => link.agree(state)),
    commits: (have) => broken(() => link.commits(have)),
    common: (have) => broken(() => link.common(have)),
  };
};

const prepare = (root: string): void => {
  const text = (name: string) => Array.from({ length: 12 }, (_, n) => `${name} line ${n}\n`).join('');
  for (const name of ['a.txt', 'b.txt', 'd/a.txt', 'd/b.txt', 'x']) put(root, name, text(name));
  put(root, '.gitignore', 'ignored*\n');
  gitIn(root, 'add', '-A');
  gitIn(root, 'commit', '-q', '-m', 'start');
};

/** What must never leave, and what would tell that a hook ran. */
const plant = (root: string): void => {
  put(root, 'ignored-notes', `${SECRET}\n`);
  put(root, '.env', `${SECRET}\n`);
  for (const hook of ['post-index-change', 'reference-transaction', 'post-checkout', 'pre-commit']) {
    put(root, `.git/hooks/${hook}`, `#!/bin/sh\ntouch '${join(root, '..', 'hook-ran')}'\n`, 0o755);
  }
};

export const makeWorld = async (random: Random, share: number) => {
  const sides = await makeTwoSides(prepare);
  const far = farSide(sides.far, join(sides.dir, 'zones'));
  mkdirSync(join(sides.dir, 'outside'));
  const replicas: Replica[] = [];
  const log: string[] = [];
  const add = (name: string, root: string): void => {
    replicas.push({ name, side: nearSide(root), place: placeAt(root), queued: [] });
  };
  const other = join(sides.dir, 'other');
  gitIn(sides.dir, 'clone', '-q', sides.near, other);
  for (const root of [sides.near, other]) plant(root);
  for (const root of [sides.near, other, sides.far]) {
    gitIn(root, 'config', 'user.name', 'a');
    gitIn(root, 'config', 'user.email', 'a@example.org');
  }
  add('near', sides.near);
  add('other', other);
  const owed = new Map<string, Set<string>>();
  const owedBy = ({ root }: Side): Set<string> => {
    const set = owed.get(root) ?? new Set();
    owed.set(root, set);
    return set;
  };
  const hookRan = join(sides.dir, 'hook-ran');

  const edit = (root: string): void => {
    const what = editAtRandom(root, random, root === sides.far);
    rmSync(hookRan, { force: true });
    log.push(`${root.split('/').at(-1)}: ${what}`);
  };

  const expectContained = (): void => {
    expect(filesIn(join(sides.dir, 'outside'))).toEqual([]);
    for (const path of filesIn(sides.far)) {
      const full = join(sides.far, path);
      if (lstatSync(full).isFile()) expect(readFileSync(full, 'latin1'), path).not.toContain(SECRET);
    }
  };

  /** Runs one step of a replica and checks all that must hold. Answers undefined where the link broke. */
  const step = async <T extends { done?: string[] }>(
    replica: Replica,
    what: string,
    work: (link: Far) => Promise<T>,
    calm = false,
  ): Promise<T | undefined> => {
    log.push(`${replica.name}: ${what}`);
    const all = [...replicas.map(({ side }) => side), far];
    const before = new Map(all.map((side) => [side, momentOf(side)]));
    let edited: Moment | undefined;
    const onApply = (): void => {
      if (calm || !random.chance(0.15)) return;
      edit(sides.far);
      edited = momentOf(far);
    };
    const link = breaking(sides.link, random, calm ? 0 : share, onApply);
    const outcome = await work(link).catch((thrown: unknown) => {
      const { message, code } = asKhloneError(thrown);
      log.push(`  failed: ${message}`);
      if (!message.includes(CUT) && code !== 'conflict') throw thrown;
      if (calm) throw thrown;
      return undefined;
    });
    const changed = new Map<Side, string[]>();
    for (const side of all) {
      const [was, now] = [(side === far ? edited : undefined) ?? before.get(side), momentOf(side)];
      if (!was) continue;
      expectNothingLost(side, was, now, owedBy(side));
      expectGitUntouched(was, now);
      changed.set(side, changedPaths(was, now));
    }
    const pulled = changed.get(replica.side) ?? [];
    const sent = changed.get(far) ?? [];
    for (const { side } of replicas) if (side !== replica.side) expect(changed.get(side)).toEqual([]);
    if (what === 'pull') expect(sent).toEqual([]);
    // A sync finishes a pull that was cut at most, and none was: pulls need no link once they write.
    if (what.includes('sync')) expect(pulled).toEqual([]);
    const done = new Set(outcome?.done ?? []);
    const moved = (what === 'pull' ? pulled : sent).map((path) => Buffer.from(path).toString('latin1'));
    if (outcome && !what.startsWith('resolve')) expect(moved.filter((path) => !done.has(path))).toEqual([]);
    await expectStateWhole(replica.side);
    expectContained();
    log.push(`  ${outcome ? `done ${[...done].join(' ')}` : 'broken'}`);
    return outcome;
  };

  const doPull = (replica: Replica, calm = false) =>
    step(replica, 'pull', async (link) => stepped(await pull(replica.place, link, freely)), calm);

  const conflictsOf = async ({ side }: Replica) => (await readState(join(side.root, '.git'), ZONE)).conflicts;

  /** Without new edits a second step changes no byte and says the same. */
  const again = async (replica: Replica): Promise<void> => {
    const before = await conflictsOf(replica);
    const outcome = await doPull(replica, true);
    expect(outcome?.done).toEqual([]);
    expect((await conflictsOf(replica)).map(({ id }) => id)).toEqual(before.map(({ id }) => id));
  };

  const doSync = async (replica: Replica, calm = false) => {
    const [tree] = replica.queued;
    if (tree === undefined)
      return step(replica, 'sync', async (link) => stepped(await sync(replica.place, link, freely)), calm);
    const wish = { ...freely, localTree: tree };
    const sent = await step(
      replica,
      'queued sync',
      async (link) => stepped(await sync(replica.place, link, wish)),
      calm,
    );
    if (sent) replica.queued.shift();
    return sent;
  };

  const queue = (replica: Replica): Promise<void> =>
    inTurn(replica.place.repository.gitDir, async () => {
      log.push(`${replica.name}: queue`);
      const ground = await openGround(replica.place.repository, ZONE, CHOICE);
      const { tree } = await snapshotOf(ground);
      await pin(ground.shadow, `queued/${ZONE}/${tree}`, tree);
      await noteQueued(ground, tree);
      replica.queued.push(tree);
    });

  const merged = (file: string): Promise<number> => {
    const lines = readFileSync(file, 'latin1').split('\n');
    writeFileSync(
      file,
      lines.filter((line) => !/^(?:<{7,}|={7,}|>{7,}|\|{7,})/u.test(line)).join('\n'),
      'latin1',
    );
    return Promise.resolve(0);
  };

  const resolve = async (replica: Replica, calm = false): Promise<void> => {
    const conflicts = await conflictsOf(replica);
    if (conflicts.length === 0) return;
    const conflict = random.of(conflicts);
    const path = conflict.paths[0] ?? '';
    const choice = random.of([
      { keep: 'local' } as const,
      { keep: 'remote' } as const,
      { merge: merged } as const,
    ]);
    const word = 'merge' in choice ? 'merge' : choice.keep;
    await step(replica, `resolve ${path} ${word} ${conflict.kind}`, async () => {
      const fallback = () => resolveConflict(replica.place, path, { keep: 'remote' });
      // Not every conflict is a text, and an ignored file may lie where none was shown.
      const decided = await resolveConflict(replica.place, path, choice).catch(fallback);
      const { refused } = 'merge' in choice && decided.refused.length > 0 ? await fallback() : decided;
      // An edit made since may stand in the way of what was decided.
      if (calm) expect(refused).toEqual([]);
      return {};
    });
  };

  const copyNear = (): void => {
    const copy = join(sides.dir, 'copy');
    if (existsSync(copy)) return;
    log.push('copy of near is made');
    cpSync(sides.near, copy, { recursive: true, verbatimSymlinks: true });
    add('copy', copy);
  };

  return { sides, far, replicas, log, edit, doPull, doSync, again, queue, resolve, copyNear, conflictsOf };
};

export type World = Awaited<ReturnType<typeof makeWorld>>;
