import { gitFailed } from '../../patch/git.ts';
import { type Left, type LeftOut, repositoriesIn, staysThere } from '../../patch/left-out.ts';
import type { Path } from '../../patch/listing.ts';
import { type Marked, markedText } from '../../patch/markers.ts';
import { treeWith } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import { agreedBase } from './agreed-base.ts';
import { recoverExchange, recoverPull, seenState } from './exchange.ts';
import type { Far } from './far.ts';
import { type Ground, keepState, openGround, present, snapshotOf } from './ground.ts';
import { countedIn } from './judge.ts';
import { inTurn } from './lock.ts';
import { fetchRemote, type Meeting, meet } from './meet.ts';
import { assertKnown, isMeant } from './named.ts';
import type { StepPlace } from './steps.ts';
import { type ToldConflict, tellConflicts } from './told.ts';

/** What a pull or a sync would do, without doing it. Without a link it is told from what was last seen of the zone. */

export type View = {
  conflicts: ToldConflict[];
  toSend: number;
  toPull: number;
  held: { path: Path; why: string }[];
  /** What of the worktree never travels, as people read it. */
  leftOut: LeftOut[];
  /** What of the zone a pull does not bring; empty where the zone was not asked. */
  stays: LeftOut[];
  /** When the zone's side was last seen, in ms since the epoch; undefined: just now. */
  asOfMs: number | undefined;
};

const MAX_LEFT_OUT = 200;
/** Bytes of a diff that are shown or exported at once. */
const MAX_DIFF_BYTES = 256 * 1024 * 1024;

type Seen = { remote: string; base?: string; theirs?: readonly LeftOut[] };

const remoteOf = async (ground: Ground, far: Far | undefined): Promise<Seen> => {
  if (far) {
    const seen = await fetchRemote(ground, far);
    const base = await agreedBase(ground, far, seen.head);
    return { remote: seen.tree, theirs: seen.leftOut, ...(base && { base }) };
  }
  const remote = await present(ground, ground.state.remote);
  if (remote === undefined)
    throw new KhloneError('unreachable', 'the zone was never seen from here', 'khlone reconnect');
  const base = await agreedBase(ground, undefined, ground.state.head);
  return { remote, ...(base && { base }) };
};

const inMeeting = <T>(
  place: StepPlace,
  far: Far | undefined,
  work: (ground: Ground, meeting: Meeting, left: Left) => Promise<T>,
): Promise<T> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    // What a killed pull had begun is no edit of the worktree.
    await (far ? recoverExchange(ground, far) : recoverPull(ground));
    const [{ tree: local, leftOut }, { remote, base, theirs }] = await Promise.all([
      snapshotOf(ground),
      remoteOf(ground, far),
    ]);
    const held = repositoriesIn(leftOut, theirs);
    const meeting = await meet(ground, { base, local, remote, held });
    await keepState(
      ground,
      far ? seenState(ground, meeting) : { ...seenState(ground, meeting), ...seenBefore(ground) },
    );
    return work(ground, meeting, { here: leftOut, there: theirs ?? [] });
  });

const seenBefore = ({ state: { seenMs } }: Ground) => (seenMs === undefined ? {} : { seenMs });

/** How both sides differ. `far` undefined: as far as it is known here. */
export const viewPatches = (place: StepPlace, far: Far | undefined): Promise<View> =>
  inMeeting(place, far, async (ground, meeting, left) => ({
    leftOut: left.here.slice(0, MAX_LEFT_OUT),
    stays: staysThere(left).slice(0, MAX_LEFT_OUT),
    conflicts: await tellConflicts(ground.shadow, meeting.merge.conflicts),
    toSend: await countedIn(ground, meeting, 'toRemote'),
    toPull: await countedIn(ground, meeting, 'toLocal'),
    held: meeting.plan.held,
    asOfMs: far ? undefined : ground.state.seenMs,
  }));

export type Direction = 'in' | 'out';

/**
 * What a pull (`in`) or a sync (`out`) would change, as a patch that `git apply` takes on that side; only the given
 * paths and what lies below them. Empty where nothing would change. Throws `usage` for a path that neither side has.
 */
export const patchText = (
  place: StepPlace,
  far: Far | undefined,
  direction: Direction,
  files: readonly Path[] | undefined,
): Promise<Buffer> =>
  inMeeting(place, far, async ({ shadow }, { plan, base, local, remote }, left) => {
    await assertKnown(place, { base, local, remote }, files, left);
    const [from, changes] = direction === 'in' ? [local, plan.toLocal] : [remote, plan.toRemote];
    const named = changes.filter(
      ({ path }) => !files || files.some((file) => path === file || path.startsWith(`${file}/`)),
    );
    const to = await treeWith(shadow, from, named);
    const args = [
      'diff-tree',
      '-p',
      '-M',
      '--binary',
      '--full-index',
      '--no-ext-diff',
      '--no-textconv',
      from,
      to,
    ];
    const said = await shadow.run([...args, '--'], { maxBytes: MAX_DIFF_BYTES });
    if (said.code !== 0) throw gitFailed('git could not make a patch', said.stderr);
    return said.stdout;
  });

/** The conflict that a path is in, as a text with both sides between markers; undefined where it is in none. */
export const conflictText = (
  place: StepPlace,
  far: Far | undefined,
  path: Path,
): Promise<{ told: ToldConflict; marked: Marked | undefined } | undefined> =>
  inMeeting(place, far, async ({ shadow }, { merge }) => {
    const conflict = merge.conflicts.find(({ paths }) => paths.some((one) => isMeant(path, one)));
    if (!conflict) return undefined;
    const [told] = await tellConflicts(shadow, [conflict]);
    const stage = conflict.contents.get(path) ?? [...conflict.contents.values()][0];
    const marked = stage && (await markedText(shadow, stage).catch(() => undefined));
    return told && { told, marked };
  });
