import { packWorktree } from '../patch/carry.ts';
import type { LeftOut } from '../patch/left-out.ts';
import type { Peer } from '../protocol/peer.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import { seedState } from './patches/seed.ts';
import { patchZoneOf } from './patches/zone.ts';
import type { SiteConfig } from './site-config.ts';
import type { Worktree } from './worktree.ts';

/** Brings a worktree's code to its zone on another machine, over the link that is there. */

export type Carried = { leftOut: LeftOut[]; head: string; files: number };

/** What was packed and sent so far. */
export type CarryProgress = (step: { sentBytes: number }) => void;

export type CarryPlace = { worktree: Worktree; config: SiteConfig; binding: Binding };

/** A large history over a slow line takes hours; the line's own liveness ends a dead carry much earlier. */
const CARRY_DEADLINE_MS = 12 * 60 * 60_000;

/** Carries under way, by hub and zone: whoever asks meanwhile waits for the same one. */
const underway = new WeakMap<App, Map<string, Promise<Carried>>>();

async function* counted(
  body: AsyncIterable<Uint8Array>,
  progress: CarryProgress,
): AsyncGenerator<Uint8Array> {
  let sentBytes = 0;
  for await (const piece of body) {
    sentBytes += piece.length;
    progress({ sentBytes });
    yield piece;
  }
}

/**
 * What was carried is what both sides have, unless an earlier carry was quicker: then nothing is noted, and the first
 * sync compares both sides anew.
 */
const seed = async (
  { worktree, config, binding }: CarryPlace,
  tree: string,
  began: string | undefined,
): Promise<void> => {
  if (began !== tree) return;
  const { place } = patchZoneOf(binding, worktree, config);
  await seedState(place.repository, place.zone, place.choice, tree).catch(() => {});
};

const carry = async (peer: Peer, place: CarryPlace, progress?: CarryProgress): Promise<Carried> => {
  const { worktree, config, binding } = place;
  const { manifest, body, leftOut } = await packWorktree({
    worktree: worktree.root,
    gitDir: worktree.gitDir,
    commonDir: worktree.commonDir,
    history: config.repo.history,
    maxFileBytes: config.sync.maxFileBytes,
    include: config.sync.include,
    exclude: config.sync.exclude,
  });
  const answer = await call(
    peer,
    'code.put',
    { zone: binding.zone, manifest },
    { body: progress ? counted(body, progress) : body, klass: 'bulk', timeoutMs: CARRY_DEADLINE_MS },
  );
  const { tree, ...told } = answer;
  await seed(place, manifest.tree, tree);
  return { leftOut, ...told };
};

/**
 * Packs the worktree and sends it to the zone's server, which answers when the zone is ready. Repeatable: a zone that
 * has its code stays as it is. Throws what packWorktree and the server throw, `unreachable` when the link is lost.
 */
export const carryCode = (
  app: App,
  peer: Peer,
  place: CarryPlace,
  progress?: CarryProgress,
): Promise<Carried> => {
  const mine = underway.get(app) ?? new Map<string, Promise<Carried>>();
  underway.set(app, mine);
  const { zone } = place.binding;
  const known = mine.get(zone);
  if (known) return known;
  const made = carry(peer, place, progress).finally(() => mine.delete(zone));
  mine.set(zone, made);
  return made;
};
