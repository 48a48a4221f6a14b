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

type Open = (target: SshTarget, asker: Asker, deps: WireDeps) => Promise<Wire>;

// Each loaded when the first host needs it: a local zone never pays for either.
const load: Record<Backend, () => Promise<Open>> = {
  ssh2: async () => (await import('./ssh2.ts')).openSshWire,
  openssh: async () => (await import('./openssh.ts')).openOpensshWire,
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
  /** What a dial taught that only openssh could finish; it holds while the hub lives. */
  let learned: BackendChoice | undefined;
  let choice: BackendChoice | undefined;

  const choose = async (route: readonly SshSettings[], target: SshTarget): Promise<BackendChoice> => {
    const wish = forced();
    if (wish !== undefined) return chooseBackend([], wish);
    return learned ?? chooseBackend(await gatherFacts(route, target), undefined);
  };

  return {
    open: async (target, asker, deps) => {
      // ssh2 takes as long to load as `ssh -G` to answer, and most hosts want it.
      if (choice?.backend !== 'openssh' && forced() !== 'openssh') load.ssh2().catch(() => {});
      const route = deps.route ?? (await resolveRoute(target.host, target.env, deps.signal));
      const chosen = await choose(route, target);
      choice = chosen;
      try {
        return await (await load[chosen.backend]())(target, asker, { ...deps, route });
      } catch (thrown) {
        if (chosen.backend === 'openssh' || forced() !== undefined || deps.signal.aborted) throw thrown;
        const why = await secondChance(thrown, route, target);
        if (why === undefined) throw thrown;
        choice = { backend: 'openssh', why };
        const wire = await (await load.openssh())(target, asker, { ...deps, route });
        learned = choice;
        return wire;
      }
    },
    choice: () => choice,
  };
};
