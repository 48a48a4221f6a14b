import { KhloneError } from '../../protocol/error.ts';
import {
  type Backend,
  type BackendChoice,
  chooseBackend,
  opensshMayHelp,
  type Ssh2Failure,
} from './choose-backend.ts';
import { gatherFacts, hasTicket } from './openssh-facts.ts';
import { resolveRoute, type SshSettings } from './ssh-config.ts';
import type { Asker, SshTarget, Wire, WireDeps } from './ssh-target.ts';

/** Dials a host by the backend that suits it, and remembers where only openssh got through. */

export type SshDial = {
  /** Rejects with `host-key`, `ssh-auth`, `unreachable`, `remote-setup` or `config`. */
  open(target: SshTarget, asker: Asker, deps: WireDeps): Promise<Wire>;
  /** What the last dial took, and why. */
  choice(): BackendChoice | undefined;
};

// Each loaded when the first host needs it: a local zone never pays for either.
const openBy: Record<Backend, (target: SshTarget, asker: Asker, deps: WireDeps) => Promise<Wire>> = {
  ssh2: async (...how) => (await import('./ssh2.ts')).openSshWire(...how),
  openssh: async (...how) => (await import('./openssh.ts')).openOpensshWire(...how),
};

/** Why openssh may get further than ssh2 did. */
const secondChance = async (
  thrown: unknown,
  route: readonly SshSettings[],
  target: SshTarget,
): Promise<string | undefined> => {
  if (!(thrown instanceof KhloneError) || thrown.data === undefined) return undefined;
  const failure: Ssh2Failure = thrown.data;
  const takesTicket = failure.accepts?.includes('gssapi-with-mic') ?? false;
  const tickets = takesTicket ? await Promise.all(route.map((hop) => hasTicket(hop, target.env))) : [];
  return opensshMayHelp(failure, tickets.includes(true));
};

/** The dial of one host. `forced` is asked each time: zones come and go, and their configuration changes. */
export const createSshDial = (forced: () => Backend | undefined): SshDial => {
  /** What a failed dial taught; it holds while the hub lives. */
  let learned: BackendChoice | undefined;
  let choice: BackendChoice | undefined;

  const choose = async (route: readonly SshSettings[], target: SshTarget): Promise<BackendChoice> => {
    const wish = forced();
    if (wish !== undefined) return chooseBackend([], wish);
    return learned ?? chooseBackend(await gatherFacts(route, target), undefined);
  };

  return {
    open: async (target, asker, deps) => {
      const route = deps.route ?? (await resolveRoute(target.host, target.env, deps.signal));
      const chosen = await choose(route, target);
      choice = chosen;
      try {
        return await openBy[chosen.backend](target, asker, { ...deps, route });
      } catch (thrown) {
        if (chosen.backend === 'openssh' || forced() !== undefined || deps.signal.aborted) throw thrown;
        const why = await secondChance(thrown, route, target);
        if (why === undefined) throw thrown;
        learned = { backend: 'openssh', why };
        choice = learned;
        return openBy.openssh(target, asker, { ...deps, route });
      }
    },
    choice: () => choice,
  };
};
