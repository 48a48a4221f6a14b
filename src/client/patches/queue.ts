import { operationHalts } from '../../patch/halt.ts';
import type { Path } from '../../patch/listing.ts';
import { pin, pinned, unpin } from '../../patch/pins.ts';
import { diffTrees, treeWith } from '../../patch/tree.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { App } from '../app.ts';
import type { Connected } from '../link/link.ts';
import { haltError } from '../render/patches.ts';
import { recoverPull } from './exchange.ts';
import { type Ground, noteQueued, openGround, present, snapshotOf } from './ground.ts';
import { isNamed } from './judge.ts';
import { inTurn } from './lock.ts';
import { type Halted, type StepPlace, type Stepped, type StepWish, sync } from './steps.ts';
import { farSide, type PatchZone, patchZoneAt, wishFor } from './zone.ts';

/**
 * Syncs that wait for their host, in one order with the tasks around them: the state at the moment of each is kept as
 * a tree, and goes over when its turn comes. Two that follow each other without a task between them are one.
 */

export type QueueWish = {
  /** The person meant it, whatever git is in the middle of. */
  yes: boolean;
  /** Only these paths and what lies below them; the others stay as the zone was told before. */
  files: readonly Path[] | undefined;
};

/** The state that was queued last for a zone and waits yet; undefined: none does. */
export const queuedTree = (app: App, zone: string): string | undefined =>
  app.outbox
    .list()
    .flatMap(({ entry: { call } }) =>
      call.name === 'patch.sync' && call.params.zone === zone ? [call.params.tree] : [],
    )
    .at(-1);

/** The state that goes over: all of the worktree, or what was queued or agreed on before with the named files in it. */
const stateOf = async (app: App, ground: Ground, files: QueueWish['files']): Promise<string> => {
  const { tree } = await snapshotOf(ground);
  if (!files) return tree;
  const from = await present(ground, queuedTree(app, ground.zone) ?? ground.state.base);
  if (from === undefined)
    throw new KhloneError('unreachable', 'what the zone has is not known here', 'khlone sync without files');
  const changes = (await diffTrees(ground.shadow, from, tree)).filter(({ path }) => isNamed(files, path));
  return treeWith(ground.shadow, from, changes);
};

/** `waits`: it is in the outbox now; else it differs in nothing from what both sides agreed on. */
export type Queued = { files: number; waits: boolean };

/**
 * Puts the present state of a worktree into the outbox. Answers how many of its paths differ from what is agreed on;
 * a state that differs in nothing has no reason to wait, unless another one or an unfinished step is before it.
 * Throws `conflict` where git is in the middle of something: when the state is sent that is no longer known.
 */
export const queueSync = (app: App, zone: PatchZone, { yes, files: named }: QueueWish): Promise<Queued> =>
  inTurn(zone.place.repository.gitDir, async () => {
    const { repository, zone: id, choice } = zone.place;
    const halts = yes ? [] : await operationHalts(repository.gitDir);
    if (halts.length > 0) throw haltError(halts);
    const ground = await openGround(repository, id, choice);
    await recoverPull(ground);
    const tree = await stateOf(app, ground, named);
    const base = await present(ground, ground.state.base);
    const isSame = tree === base && ground.state.pending === undefined;
    if (isSame && queuedTree(app, id) === undefined) return { files: 0, waits: false };
    await pin(ground.shadow, queuedName(id, tree), tree);
    await noteQueued(ground, tree);
    const files = base === undefined ? 0 : (await diffTrees(ground.shadow, base, tree)).length;
    app.outbox.put({
      host: zone.binding.host,
      queuedMs: Date.now(),
      say: SYNC,
      call: { name: 'patch.sync', params: { zone: id, tree, files } },
    });
    return { files, waits: true };
  });

/** What a queued sync is called where tasks have their words. */
export const SYNC = 'sync';

const queuedName = (zone: string, tree: string): string => `queued/${zone}/${tree}`;

/** Lets go of queued states that wait no more; one that was stopped is kept until a later sync went well. */
const release = (app: App, { repository, zone, choice }: StepPlace, wentWell: boolean): Promise<void> =>
  inTurn(repository.gitDir, async () => {
    const { shadow } = await openGround(repository, zone, choice);
    const waiting = new Set(
      app.outbox
        .list()
        .flatMap(({ entry: { call } }) => (call.name === 'patch.sync' ? [call.params.tree] : [])),
    );
    const stopped = new Set(app.outbox.refused().map(({ id }) => id));
    for (const [name, tree] of await pinned(shadow, `queued/${zone}`)) {
      if (waiting.has(tree) || (stopped.has(tree) && !wentWell)) continue;
      app.outbox.forgive(tree);
      await unpin(shadow, name);
    }
  });

/** Notes that a whole sync went well: what was stopped before it is settled. */
export const settleStopped = async (app: App, { place }: PatchZone): Promise<void> => {
  if (app.outbox.refused().some(({ say }) => say === SYNC)) await release(app, place, true);
};

/** Sends a state that was queued. What is in conflict waits in the zone's state; a halt is an error that is kept. */
export const sendQueued = async (
  app: App,
  connected: Connected,
  { zone: id, tree }: { zone: string; tree: string },
): Promise<void> => {
  const binding = app.bindings.byZone(id);
  if (!binding) throw new KhloneError('not-found', 'that zone is not known here any more', 'khlone init');
  const zone = await patchZoneAt(app.home, binding);
  const wish = { ...wishFor(zone, { yes: false }), localTree: tree };
  const outcome = await syncZone(connected, zone, wish);
  app.known.touch(id);
  await release(app, zone.place, !('halts' in outcome));
  if ('halts' in outcome) {
    const why = outcome.halts.map(({ message }) => message).join('; ');
    throw new KhloneError(
      'conflict',
      `a queued sync was stopped: ${why}`,
      'khlone sync --yes, if that is meant',
    );
  }
};

export const syncZone = (
  connected: Connected,
  zone: PatchZone,
  wish: StepWish & { localTree?: string },
): Promise<Stepped | Halted> => sync(zone.place, farSide(zone, connected), wish);

/** Whether a fault means that the host is away, and the sync waits for it. */
export const waitsFor = (thrown: unknown): boolean =>
  ['unreachable', 'timeout', 'shutting-down', 'start-failed', 'remote-setup'].includes(
    asKhloneError(thrown).code,
  );
