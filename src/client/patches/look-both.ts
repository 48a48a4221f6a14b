import { repositoriesIn } from '../../patch/left-out.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { seenState } from './exchange.ts';
import { firstBase } from './first-base.ts';
import { type Ground, keepState, openGround, present, snapshotOf } from './ground.ts';
import { countedIn } from './judge.ts';
import { inTurn } from './lock.ts';
import { meet } from './meet.ts';
import { farSide, patchZoneAt } from './zone.ts';

/** A look at both sides for the counts that people see: nothing is carried, and nothing moves. */

/**
 * Writes down how far the worktree and its zone are apart. What the zone has beyond its last seen state is only
 * counted: it is carried by a pull. Throws `unreachable` without a link.
 */
export const lookBoth = async (app: App, binding: Binding): Promise<void> => {
  const connected = app.link(binding.host).current();
  if (!connected) throw new KhloneError('unreachable', `${binding.host} does not answer`, 'khlone reconnect');
  const zone = await patchZoneAt(app.home, binding);
  const { repository, zone: id, choice } = zone.place;
  const open = (): Promise<Ground> => openGround(repository, id, choice);
  const { replica, state } = await inTurn(repository.gitDir, open);
  const { remote } = state;
  if (remote === undefined) return;
  // Outside of the lock: a zone that is slow to answer keeps nobody from a sync.
  const asked = { replica, known: [remote], payload: false };
  const far = farSide(zone, connected);
  const { answer } = await far.look(asked);
  const first = state.base === undefined ? await firstBase(repository, far, answer.head) : undefined;
  await inTurn(repository.gitDir, async () => {
    const ground = await open();
    // Somebody was quicker and knows more, or an exchange was cut, which the next one finishes.
    if (ground.state.remote !== remote || ground.state.pending) return;
    const [agreed, seen, { tree, leftOut }] = await Promise.all([
      present(ground, ground.state.base),
      present(ground, remote),
      snapshotOf(ground),
    ]);
    if (seen === undefined) return;
    const held = repositoriesIn(leftOut, answer.leftOut);
    const met = await meet(ground, { base: agreed ?? first, local: tree, remote: seen, held });
    const toSend = await countedIn(ground, met, 'toRemote');
    const toPull = await countedIn(ground, met, 'toLocal');
    const more = answer.tree === remote ? 0 : (answer.changed ?? 0);
    await keepState(ground, { ...seenState(ground, met), toSend, toPull: toPull + more });
  });
};
