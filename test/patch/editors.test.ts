import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blobAt } from '../../src/patch/blob-id.ts';
import { newMark, oldMark, type Swap, swapPath } from '../../src/patch/swap.ts';
import type { Change, Entry } from '../../src/patch/tree.ts';
import type { Order } from './editor-program.ts';
import { makeGround } from './ground.ts';
import { type How, SAVES, type Save } from './saves.ts';

/**
 * An editor that saves while a path is swapped, at any moment and in every way: what it saved is in the file or among
 * what was displaced. KHLONE_LONG=1 tries thousands of moments.
 */

const LONG = process.env.KHLONE_LONG === '1';
/** Of one way to save and one kind of change. */
const ROUNDS = LONG ? 1_000 : 30;
const SAID_MS = 10_000;

const ground = makeGround();
const swap: Swap = { root: join(ground.dir, 'root'), holding: join(ground.dir, 'holding'), idLength: 40 };
const path = join(swap.root, 'folder/file.txt');
let count = 0;

const entryOf = (text: string): Entry => ({
  mode: '100644',
  oid: createHash('sha1')
    .update(`blob ${Buffer.byteLength(text)}\0${text}`)
    .digest('hex'),
});

const KINDS = ['replace', 'remove', 'make'] as const;
type Kind = (typeof KINDS)[number];

/** A change of one path that is ready to be made, with what the editor will save. */
const begin = (kind: Kind) => {
  count += 1;
  const [kept, theirs, mine] = [`kept ${count}\n`, `theirs ${count}\n`, `mine ${count}\n`];
  rmSync(swap.root, { recursive: true, force: true });
  mkdirSync(join(swap.root, 'folder'), { recursive: true });
  // A folder that is empty goes with its last file, and the editor's name for it with it.
  writeFileSync(join(swap.root, 'folder/other.txt'), '');
  if (kind !== 'make') writeFileSync(path, kept);
  if (kind !== 'remove') writeFileSync(newMark(swap, count), theirs);
  const change: Change = {
    path: 'folder/file.txt',
    before: kind === 'make' ? undefined : entryOf(kept),
    after: kind === 'remove' ? undefined : entryOf(theirs),
  };
  return { n: count, change, kept, theirs, mine };
};

const textAt = (at: string): string => (existsSync(at) ? readFileSync(at, 'utf8') : '');

/** Answers whether the swap was made. */
const expectKept = (
  { n, change, kept, theirs, mine }: ReturnType<typeof begin>,
  refused: string | undefined,
): boolean => {
  const [there, aside] = [textAt(path), textAt(oldMark(swap, n))];
  const seen = JSON.stringify({ there, aside, refused });
  expect(there + aside, seen).toContain(mine);
  // What was left alone holds what the editor saved, and nothing of the other side.
  if (refused !== undefined) expect(there, seen).toContain(mine);
  if (refused !== undefined) expect(there, seen).not.toContain(theirs);
  // What was moved is whole. Nothing was to be moved for a removal where the editor itself had just done it.
  const isMoved = refused === undefined && change.before && !aside.includes(mine);
  if (isMoved && (change.after || aside !== '')) expect(aside, seen).toBe(kept);
  return refused === undefined;
};

type Round = (kind: Kind, how: How) => Promise<boolean>;

/**
 * How long after the beginning the latest saves are. It follows the machine: a save that came too early to be in the
 * way of a swap makes the next ones later, and one that came too late makes them earlier.
 */
let reachUs = 2_000;
const MIN_REACH_US = 50;
const MAX_REACH_US = 100_000;
const momentUs = (): number => Math.floor(Math.random() * reachUs);
const learn = (isMade: boolean): void => {
  reachUs = Math.min(MAX_REACH_US, Math.max(MIN_REACH_US, isMade ? reachUs / 1.2 : reachUs * 1.2));
};

const tryAll = (name: string, run: Round): void => {
  describe(name, () => {
    for (const kind of KINDS) {
      it.each(Object.keys(SAVES) as How[])(
        `loses nothing that an editor saves %s (${kind})`,
        async (how) => {
          const made = { true: 0, false: 0 };
          for (let round = 0; round < ROUNDS; round += 1) {
            const isMade = await run(kind, how);
            made[`${isMade}`] += 1;
            // A file that an editor makes is never in a swap's way for long: its moments are those of the others.
            if (kind !== 'make') learn(isMade);
          }
          // Early and late moments were among them, or the rounds told nothing.
          if (kind !== 'make')
            expect(Math.min(made.true, made.false), JSON.stringify(made)).toBeGreaterThan(0);
        },
        300_000,
      );
    }
  });
};

beforeAll(() => mkdirSync(swap.holding));
afterAll(() => ground.remove());

/** Promises that a swap waits for from its beginning to a little after the first step that leaves this thread. */
const MOST_STEPS = 40;

tryAll('in this process, between any two steps of a swap', async (kind, how) => {
  const begun = begin(kind);
  const { open, save }: Save = SAVES[how];
  const descriptor = open?.(path) ?? -1;
  const swapping = swapPath(swap, begun.n, begun.change);
  // What is asked of a near disk takes no turn of the loop: its steps are told apart by the promises between them.
  if (Math.random() < 0.5) for (let left = Math.random() * MOST_STEPS; left > 0; left -= 1) await undefined;
  else {
    const endMs = performance.now() + momentUs() / 1_000;
    while (performance.now() < endMs) await new Promise(setImmediate);
  }
  save(path, begun.mine, descriptor);
  const refused = await swapping;
  if (descriptor >= 0) closeSync(descriptor);
  return expectKept(begun, refused);
});

it('takes a file that is renamed away while it is looked at for gone', async () => {
  const folder = join(ground.dir, 'looks');
  mkdirSync(folder);
  const [at, away] = [join(folder, 'file'), join(folder, 'away')];
  for (let round = 0; round < ROUNDS * 10; round += 1) {
    writeFileSync(at, 'text\n');
    const looking = blobAt(Buffer.from(at), 40);
    const endMs = performance.now() + (round % 50) / 100;
    while (performance.now() < endMs) await new Promise(setImmediate);
    renameSync(at, away);
    const found = await looking;
    if (found !== undefined) expect(found).toMatchObject(entryOf('text\n'));
  }
});

describe('with an editor of its own', () => {
  let editor: ChildProcess;
  beforeAll(() => {
    editor = fork(join(import.meta.dirname, 'editor-program.ts'), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  });
  afterAll(() => editor.disconnect());

  const said = (word: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the editor is not ${word}`)), SAID_MS);
      const hear = (heard: unknown): void => {
        if (heard !== word) return;
        clearTimeout(late);
        editor.off('message', hear);
        resolve();
      };
      editor.on('message', hear);
    });

  tryAll('at any moment of a swap', async (kind, how) => {
    const begun = begin(kind);
    const order: Order = { how, path, text: begun.mine, afterUs: momentUs() };
    const [ready, saved] = [said('ready'), said('saved')];
    // Awaited below, and not at all where the swap fails first.
    saved.catch(() => {});
    editor.send(order);
    await ready;
    const refused = await swapPath(swap, begun.n, begun.change);
    await saved;
    return expectKept(begun, refused);
  });
});
