import { asKhloneError, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import { type Carried, type CarryPlace, type CarryProgress, carryCode } from './carry-code.ts';
import { AWAY_HINT } from './link/away.ts';
import type { Connected } from './link/link.ts';
import { isOwnWorktree } from './patches/zone.ts';
import { loadSiteConfig } from './site-config.ts';
import { needsTrust } from './trust.ts';
import { findWorktree } from './worktree.ts';

/** Brings code to the zones that wait for it, also when the hub or the link that carried it before died. */

export type Carrier = {
  /**
   * Carries from a place whose configuration a command has read and may use; a carry under way is joined. Throws what
   * carryCode throws.
   */
  carry(place: CarryPlace, progress?: CarryProgress): Promise<Carried>;
  /** Carries again, in the background; a zone that needs a person for it says so in its status. */
  resume(zone: string): void;
  /** Why the code of a zone did not get there. */
  trouble(zone: string): KhloneError | undefined;
};

/** The place of a binding as far as nobody has to be asked: another branch or a new khlone.yml wait for a command. */
const placeOf = async (app: App, binding: Binding): Promise<CarryPlace> => {
  const worktree = await findWorktree(binding.root);
  if (worktree?.branch !== binding.branch) {
    throw new KhloneError(
      'conflict',
      `${binding.root} is not on ${binding.branch} now`,
      `git switch ${binding.branch}, then khlone init`,
    );
  }
  const config = await loadSiteConfig(worktree.root);
  const question = await needsTrust(app.home, worktree, config);
  if (question) throw new KhloneError('not-trusted', question.short, 'khlone trust, then khlone init');
  return { worktree, config, binding };
};

export const createCarrier = (appOf: () => App): Carrier => {
  const troubles = new Map<string, KhloneError>();
  const resuming = new Set<string>();
  const underway = new Map<string, Promise<Carried>>();

  /** Over the connection that is there; when it breaks and another one is there already, over that one. */
  const overAny = async (place: CarryPlace, progress: CarryProgress | undefined): Promise<Carried> => {
    const app = appOf();
    const { host } = place.binding;
    for (let tried: Connected | undefined; ; ) {
      const connected = app.link(host).current();
      if (!connected || connected === tried)
        throw new KhloneError('unreachable', `${host} does not answer`, AWAY_HINT);
      tried = connected;
      try {
        return await carryCode(app, connected.peer, place, progress);
      } catch (thrown) {
        if (asKhloneError(thrown).code !== 'unreachable') throw thrown;
      }
    }
  };

  const once = async (place: CarryPlace, progress: CarryProgress | undefined): Promise<Carried> => {
    const app = appOf();
    const { zone, host } = place.binding;
    try {
      const carried = await overAny(place, progress);
      troubles.delete(zone);
      const peer = app.link(host).current()?.peer;
      const seen = peer && (await call(peer, 'zone.get', { zone }).catch(() => undefined));
      if (seen?.zone) app.known.put(seen.zone);
      return carried;
    } catch (thrown) {
      const error = asKhloneError(thrown);
      // A lost link is no trouble of the code's: it is carried again when the link is back.
      if (error.code !== 'unreachable') troubles.set(zone, error);
      app.known.touch(zone);
      throw error;
    }
  };

  const carry: Carrier['carry'] = (place, progress) => {
    const { zone } = place.binding;
    const known = underway.get(zone);
    if (known) return known;
    const made = once(place, progress).finally(() => underway.delete(zone));
    underway.set(zone, made);
    return made;
  };

  const again = async (binding: Binding): Promise<void> => {
    try {
      await carry(await placeOf(appOf(), binding));
    } catch (thrown) {
      const error = asKhloneError(thrown);
      if (error.code !== 'unreachable') troubles.set(binding.zone, error);
    } finally {
      resuming.delete(binding.zone);
    }
  };

  return {
    carry,
    trouble: (zone) => troubles.get(zone),
    resume: (zone) => {
      const binding = appOf().bindings.byZone(zone);
      if (!binding || isOwnWorktree(binding) || resuming.has(zone)) return;
      resuming.add(zone);
      void again(binding);
    },
  };
};
