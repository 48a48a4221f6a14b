import type { App } from '../app.ts';
import { openBindings } from '../bindings.ts';
import { createCarrier } from '../carrier.ts';
import { pushEnvironments } from '../environments.ts';
import { createFlusher } from '../flush.ts';
import { createKnown } from '../known.ts';
import { type Backend, type BackendChoice, forcedBackend } from '../link/choose-backend.ts';
import { createLink, type Dial, type LinkEvents } from '../link/connection.ts';
import type { Lender, Link } from '../link/link.ts';
import { dialLocal } from '../link/local.ts';
import { createRedial } from '../link/redial.ts';
import type { SshDial } from '../link/ssh-dial.ts';
import { openOutbox } from '../outbox.ts';
import type { HubSpec } from './serve.ts';
import { createZoneWatch } from './zone-watch.ts';

/** Puts together what the hub holds for all commands. */

type SshWay = { dial: Dial; backend(): BackendChoice | undefined };

const dialSsh = (spec: HubSpec, host: string, forced: () => Backend | undefined): SshWay => {
  let known: SshDial | undefined;
  const dial: Dial = async (lender, signal, installing) => {
    // Loaded when the first ssh zone is used: a local zone never pays for it.
    const { createSshDial } = await import('../link/ssh-dial.ts');
    known ??= createSshDial(forced);
    const agent = lender.env.SSH_AUTH_SOCK;
    const progress = (line: string): void => {
      installing();
      lender.progress?.(line);
    };
    return known.open(
      { host, home: spec.home.root, env: { ...lender.env }, ...(agent && { sshAuthSock: agent }) },
      lender.ask ? { ask: lender.ask } : undefined,
      {
        ...{ serverBundle: spec.serverBundle, version: spec.version, signal, progress },
        ...(lender.progress && { notice: lender.progress }),
      },
    );
  };
  return { dial, backend: () => known?.choice() };
};

/** Zones that nobody used for this long are not worth a connection of their own accord. */
const IN_USE_MS = 7 * 24 * 3600_000;
/** A host that was away for this long is dialled again when somebody wants it. */
const GIVE_UP_IDLE_MS = 3600_000;

export const createApp = (spec: HubSpec, stop: () => void): App => {
  const links = new Map<string, Link>();
  const backends = new Map<string, SshWay['backend']>();
  /** The surroundings of the last caller who came with all of them, by host: what dials by itself uses them. */
  const lastEnv = new Map<string, Lender['env']>();
  const watch = createZoneWatch(() => app);
  const events: LinkEvents = {
    onChange: (link) => {
      for (const binding of app.bindings.all()) if (binding.host === link.name) app.known.touch(binding.zone);
      if (link.state() === 'offline') app.redial.soon(link.name);
    },
    onOnline: (link, connected) => {
      watch.follow(link.name, connected);
      void pushEnvironments(app, link.name, connected.peer)
        .then(() => app.flush(link.name))
        .catch(() => {});
    },
  };
  const wayTo = (host: string): Dial => {
    const zonesThere = () => app.bindings.all().filter((binding) => binding.host === host);
    const { dial, backend } = dialSsh(spec, host, () => forcedBackend(zonesThere()));
    backends.set(host, backend);
    return dial;
  };
  const link = (host: string): Link => {
    const known = links.get(host);
    if (known) return known;
    const way = host === 'local' ? dialLocal(spec) : wayTo(host);
    const dial: typeof way = (lender, ...rest) => {
      lastEnv.set(host, lender.env);
      return way(lender, ...rest);
    };
    const made = createLink({ name: host, build: spec.build, dial, events, pings: host !== 'local' });
    links.set(host, made);
    return made;
  };
  const redial = createRedial({
    link,
    env: (host) => lastEnv.get(host) ?? process.env,
    wanted: (host) => {
      if (app.outbox.first(host)) return true;
      const now = Date.now();
      const inUse = app.bindings.all().some((b) => b.host === host && now - b.usedMs < IN_USE_MS);
      return host !== 'local' && inUse && now - (link(host).lastSeenMs() ?? 0) < GIVE_UP_IDLE_MS;
    },
  });
  const app: App = {
    home: spec.home,
    version: spec.version,
    bindings: openBindings(spec.home.zones),
    outbox: openOutbox(spec.home.outbox),
    link,
    links: () => [...links.values()],
    backend: (host) => backends.get(host)?.(),
    environments: new Map(),
    shellSessions: new Map(),
    known: createKnown(spec.home, () => app),
    flush: createFlusher(() => app),
    redial,
    carrier: createCarrier(() => app),
    watchZone: watch.include,
    stop: () => {
      watch.stop();
      redial.stop();
      stop();
    },
  };
  // What a hub that was killed had accepted goes on its way by itself.
  for (const host of new Set(app.outbox.list().map(({ entry }) => entry.host))) redial.soon(host);
  return app;
};
