import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Application, applyChanges } from '../../patch/apply.ts';
import { gitFailed } from '../../patch/git.ts';
import { changesIgnoreRules } from '../../patch/ignored.ts';
import { type Path, pathText } from '../../patch/listing.ts';
import { markedText, markersLeft } from '../../patch/markers.ts';
import { type Change, type Entry, entriesOf } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import { finishDecision, recoverPull } from './exchange.ts';
import { applyPlaceOf, type Ground, keepState, openGround, snapshotOf } from './ground.ts';
import { ignoredBefore } from './judge.ts';
import { inTurn } from './lock.ts';
import type { KeptConflict } from './state.ts';
import type { StepPlace } from './steps.ts';

/**
 * A person decides a conflict. It needs no link: the zone's version was brought here with the conflict. The base takes
 * over what the zone has at these paths, so that whatever is here from now on is an edit of that, for the next sync.
 */

export type Choice =
  | { keep: 'local' | 'remote' }
  /** Opens a file in the person's editor and answers its exit code. */
  | { merge: (file: string) => Promise<number> };

export type Resolved = { paths: Path[]; refused: Application['refused'] };

const EDIT_ATTEMPTS = 10;
const MAX_EDITED_BYTES = 64 * 1024 * 1024;

const conflictAt = ({ state }: Ground, path: Path): KeptConflict => {
  const found = state.conflicts.find(({ paths }) => paths.includes(path));
  if (found) return found;
  const some = state.conflicts.map(({ paths }) => pathText(paths[0] ?? '')).slice(0, 5);
  throw new KhloneError(
    'not-found',
    `no conflict in ${pathText(path)}`,
    some.length > 0 ? `conflicts: ${some.join(', ')}` : 'khlone pull looks for some',
  );
};

type Target = { path: Path; after: Entry | undefined };

/** Writes what the person decided, where the worktree is as it was just read. */
const write = async (
  ground: Ground,
  targets: readonly Target[],
  conflict: string,
): Promise<Pick<Application, 'refused' | 'settle'>> => {
  const { shadow } = ground;
  const { tree } = await snapshotOf(ground);
  const now = await entriesOf(
    shadow,
    tree,
    targets.map(({ path }) => path),
  );
  const changes: Change[] = targets.flatMap(({ path, after }) => {
    const before = now.get(path);
    return before?.oid === after?.oid && before?.mode === after?.mode ? [] : [{ path, before, after }];
  });
  if (changes.length === 0) return { refused: [], settle: async () => {} };
  if (changesIgnoreRules(changes)) {
    const ignoredOnce = await ignoredBefore(ground);
    await keepState(ground, { ...ground.state, ignoredOnce });
  }
  const note = { zone: ground.zone, conflict };
  return applyChanges(applyPlaceOf(ground), shadow, changes, { note, moves: [] });
};

const writeBlob = async ({ shadow }: Ground, text: Buffer): Promise<string> => {
  const said = await shadow.run(['hash-object', '-w', '--stdin', '--no-filters'], { input: text });
  if (said.code !== 0) throw gitFailed('git could not keep the merged text', said.stderr);
  return said.stdout.toString('utf8').trim();
};

/** Lets the person edit the text with markers until none is left. Throws `interrupted` when they give up. */
const editMarked = async (
  ground: Ground,
  { paths, contents }: KeptConflict,
  open: (file: string) => Promise<number>,
): Promise<Target> => {
  const [content] = contents;
  if (!content || contents.length !== 1)
    throw new KhloneError(
      'conflict',
      `${paths.length} files are in one conflict, and no text holds them all`,
      'choose a side: --keep local or --keep remote',
    );
  const [path, stage] = content;
  const { text, markerSize } = await markedText(ground.shadow, stage);
  const name = basename(pathText(path))
    .replace(/[^\w.-]/gu, '_')
    .slice(-100);
  const file = join(ground.dir, `resolve-${randomBytes(4).toString('hex')}-${name}`);
  await writeFile(file, text, { mode: 0o600, flag: 'wx' });
  try {
    for (let attempt = 0; attempt < EDIT_ATTEMPTS; attempt += 1) {
      const code = await open(file);
      if (code !== 0)
        throw new KhloneError('interrupted', `the editor ended with ${code}: nothing was changed`);
      const edited = await readFile(file);
      if (edited.length > MAX_EDITED_BYTES)
        throw new KhloneError('too-large', 'the merged text is too large');
      const left = markersLeft(edited, markerSize);
      if (left.length === 0) {
        const mode = stage.local?.mode ?? '100644';
        return { path, after: { mode, oid: await writeBlob(ground, edited) } };
      }
      if (edited.equals(text) || attempt + 1 === EDIT_ATTEMPTS) {
        throw new KhloneError(
          'conflict',
          `conflict markers are left in line ${left.slice(0, 5).join(', ')}: nothing was changed`,
          `khlone resolve ${pathText(path)} --merge opens it again`,
        );
      }
    }
    throw new KhloneError('conflict', 'conflict markers are left: nothing was changed');
  } finally {
    await rm(file, { force: true });
  }
};

const targetsOf = (ground: Ground, conflict: KeptConflict, choice: Choice): Promise<Target[]> | Target[] => {
  if ('merge' in choice) return editMarked(ground, conflict, choice.merge).then((target) => [target]);
  if (choice.keep === 'local') return [];
  return conflict.stages.map(([path, { remote }]) => ({ path, after: remote }));
};

/**
 * Decides the conflict that `path` is in, with all files that are in it together. `refused`: paths that somebody
 * changed meanwhile; the conflict then stays. What was displaced is kept. Throws `not-found` where there is none.
 */
export const resolveConflict = (place: StepPlace, path: Path, choice: Choice): Promise<Resolved> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    await recoverPull(ground);
    const conflict = conflictAt(ground, path);
    const targets = await targetsOf(ground, conflict, choice);
    const written = await write(ground, targets, conflict.id);
    faultPoint('patch.decided');
    await finishDecision(ground, conflict.id, written);
    return { paths: conflict.paths, refused: written.refused };
  });
