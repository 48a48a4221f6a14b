import { type Application, applyChanges, type Move } from '../../patch/apply.ts';
import { blobAt } from '../../patch/blob-id.ts';
import { gitFailed } from '../../patch/git.ts';
import { changesIgnoreRules } from '../../patch/ignored.ts';
import { type Path, toBytes } from '../../patch/listing.ts';
import { markedText } from '../../patch/markers.ts';
import type { Stage } from '../../patch/merge-said.ts';
import { CHANGED } from '../../patch/swap.ts';
import { type Change, type Entry, sameEntry } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import { fileWord, type Standing } from '../render/file-word.ts';
import { editMarked, type Marked } from './edit-conflict.ts';
import { finishDecision, recoverPull } from './exchange.ts';
import { applyPlaceOf, type Ground, keepState, openGround } from './ground.ts';
import { ignoredBefore } from './judge.ts';
import { inTurn } from './lock.ts';
import { isMeant } from './named.ts';
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

export type Resolved = { paths: Path[]; refused: Application['refused']; kept?: string };

/** A file as a person named it, and where they stood: what they are told names files from there. */
type NamedFile = { path: Path; cwd: string };

const standingIn = ({ repository }: Ground, cwd: string): Standing => ({ cwd, root: repository.worktree });

const conflictAt = (ground: Ground, { path, cwd }: NamedFile): KeptConflict => {
  const { conflicts } = ground.state;
  const exact = conflicts.filter(({ paths }) => paths.includes(path));
  const alike = () => conflicts.filter(({ paths }) => paths.some((one) => isMeant(path, one)));
  const found = exact.length > 0 ? exact : alike();
  const [only] = found;
  if (only && found.length === 1) return only;
  const standing = standingIn(ground, cwd);
  if (only)
    throw new KhloneError(
      'conflict',
      `${found.length} conflicts are in files that ${fileWord(path, standing)} may mean`,
      'khlone pull --force takes the zone’s version of every conflict and keeps yours',
    );
  const some = conflicts.map(({ paths }) => fileWord(paths[0] ?? '', standing)).slice(0, 5);
  const isFolder = conflicts.some(({ paths }) =>
    paths.some((one) => path === '' || one.startsWith(`${path}/`)),
  );
  throw new KhloneError(
    'not-found',
    isFolder ? 'conflicts are decided file by file' : `no conflict in ${fileWord(path, standing)}`,
    some.length > 0 ? `conflicts: ${some.join(', ')}` : 'khlone pull looks for some',
  );
};

type Target = { path: Path; after: Entry | undefined };

/** What lies in the worktree, whether rules cover it or not: a person who decides means what is there. */
const entryAt = async ({ repository, shadow }: Ground, path: Path): Promise<Entry | undefined> => {
  const full = Buffer.concat([Buffer.from(`${repository.worktree}/`), toBytes(path)]);
  const found = await blobAt(full, shadow.zeroId.length);
  return typeof found === 'object' ? { mode: found.mode, oid: found.oid } : undefined;
};

/** Writes what the person decided, where the worktree is as it was just read. */
const write = async (
  ground: Ground,
  targets: readonly Target[],
  { conflict, moves = [] }: { conflict: string; moves?: readonly Move[] | undefined },
): Promise<Pick<Application, 'refused' | 'settle'>> => {
  const { shadow } = ground;
  const now = await Promise.all(targets.map(({ path }) => entryAt(ground, path)));
  const changes: Change[] = targets.flatMap(({ path, after }, n) => {
    const before = now[n];
    return sameEntry(before, after) ? [] : [{ path, before, after }];
  });
  if (changes.length === 0) return { refused: [], settle: async () => {} };
  if (changesIgnoreRules(changes)) {
    const ignoredOnce = await ignoredBefore(ground);
    await keepState(ground, { ...ground.state, ignoredOnce });
  }
  const note = { zone: ground.zone, conflict };
  return applyChanges(applyPlaceOf(ground), shadow, changes, { note, moves });
};

const writeBlob = async ({ shadow }: Ground, text: Buffer): Promise<string> => {
  const said = await shadow.run(['hash-object', '-w', '--stdin', '--no-filters'], { input: text });
  if (said.code !== 0) throw gitFailed('git could not keep the merged text', said.stderr);
  return said.stdout.toString('utf8').trim();
};

/** `here`: where the local text lies, which the zone may have given another name. */
type Opened = { conflict: KeptConflict; stage: Stage; here: Path; marked: Marked; dir: string };

/** Undefined where this side has a file of its own under the name, or the zone under the one here. */
const placeHere = ({ stages }: KeptConflict, path: Path, { local }: Stage): Path | undefined => {
  const there = stages.find(([name]) => name === path)?.[1].local;
  if (there) return sameEntry(there, local) ? path : undefined;
  return stages.find(([, stage]) => sameEntry(stage.local, local) && !stage.remote)?.[0];
};

/** As git merges it: whichever side changed it has its way. */
const modeOf = ({ base, local, remote }: Stage): string =>
  (local?.mode === base?.mode ? remote : local)?.mode ?? '100644';

/** What an editor is given of a conflict. Throws `conflict` where no one text holds it. */
const openConflict = async (ground: Ground, file: NamedFile): Promise<Opened> => {
  const conflict = conflictAt(ground, file);
  const { paths, contents } = conflict;
  const [content] = contents;
  const here = content && placeHere(conflict, ...content);
  if (!content || here === undefined || contents.length !== 1)
    throw new KhloneError(
      'conflict',
      `${paths.length} files are in one conflict, and no text holds them all`,
      'choose a side: --keep local or --keep remote',
    );
  const [named, stage] = content;
  const word = fileWord(named, standingIn(ground, file.cwd));
  const marked = { path: named, word, ...(await markedText(ground.shadow, stage)) };
  return { conflict, stage, here, marked, dir: ground.dir };
};

/** The person's text takes the file's place, where that still has the lines that they saw. */
const takeEdited = async (ground: Ground, opened: Opened, edited: Buffer): Promise<Resolved> => {
  const { conflict, stage, here, marked } = opened;
  const { path } = marked;
  const isMoved = here !== path;
  const isSame =
    sameEntry(await entryAt(ground, here), stage.local) &&
    !(isMoved && (await entryAt(ground, path))) &&
    ground.state.conflicts.some(({ id }) => id === conflict.id);
  if (!isSame) return { paths: conflict.paths, refused: [{ path, why: CHANGED }] };
  const text = { path, after: { mode: modeOf(stage), oid: await writeBlob(ground, edited) } };
  if (!isMoved) return decide(ground, conflict, [text]);
  return decide(ground, conflict, [text, { path: here, after: undefined }], [{ from: here, to: path }]);
};

const decide = async (
  ground: Ground,
  conflict: KeptConflict,
  targets: readonly Target[],
  moves?: readonly Move[],
): Promise<Resolved> => {
  const written = await write(ground, targets, { conflict: conflict.id, moves });
  faultPoint('patch.decided');
  await finishDecision(ground, conflict.id, written);
  return { paths: conflict.paths, refused: written.refused };
};

const targetsOf = ({ stages }: KeptConflict, keep: 'local' | 'remote'): Target[] =>
  keep === 'local' ? [] : stages.map(([path, { remote }]) => ({ path, after: remote }));

const inGround = <T>(place: StepPlace, work: (ground: Ground) => Promise<T>): Promise<T> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    await recoverPull(ground);
    return work(ground);
  });

/**
 * Decides the conflict that `path` is in, with all files that are in it together. `refused`: paths that somebody
 * changed meanwhile; the conflict then stays, and a text that was edited is kept as `kept`. What was displaced is
 * kept. `cwd`: where the person stands, for what they are told. Throws `not-found` where there is none.
 */
export const resolveConflict = async (
  place: StepPlace,
  path: Path,
  choice: Choice,
  cwd = place.repository.worktree,
): Promise<Resolved> => {
  const file = { path, cwd };
  if ('keep' in choice) {
    return inGround(place, async (ground) => {
      const conflict = conflictAt(ground, file);
      return decide(ground, conflict, targetsOf(conflict, choice.keep));
    });
  }
  const opened = await inGround(place, (ground) => openConflict(ground, file));
  return editMarked(opened.dir, opened.marked, choice.merge, async (edited, kept) => {
    const value = await inGround(place, (ground) => takeEdited(ground, opened, edited));
    const taken = value.refused.length === 0;
    return { taken, value: taken ? value : { ...value, kept } };
  });
};
