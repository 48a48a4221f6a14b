import type { App } from '../app.ts';
import { pushEnvironments } from '../environments.ts';
import { type Backend, type BackendChoice, forcedBackend } from '../link/choose-backend.ts';
import { createLink, type Dial, type LinkEvents } from '../link/connection.ts';
import type { Lender, Link } from '../link/link.ts';
import { dialLocal } from '../link/local.ts';
import { createRedial, type Redial } from '../link/redial.ts';
import type { SshDial } from '../link/ssh-dial.ts';
import { createSurroundings } from '../link/surroundings.ts';
import type { HubSpec } from './serve.ts';
import type { ZoneWatch } from './zone-watch.ts';

/** The links of the hub, one per host, and what keeps them alive. */

export type Links = {
  /** The link of a host, made on first use. What a person wants of it now does not wait for tries that failed. */
  link(host: string): Link;
  all(): Link[];
  backend: App['backend'];
  redial: Redial;
  stop(): void;
};

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

/** What a link tells the rest of the hub. */
const eventsOf = (appOf: () => App, watch: ZoneWatch): LinkEvents => ({
  onChange: (link) => {
    const app = appOf();
    for (const binding of app.bindings.all()) if (binding.host === link.name) app.known.touch(binding.zone);
    if (link.state() === 'offline') app.redial.soon(link.name);
  },
  onOnline: (link, connected) => {
    const app = appOf();
    app.redial.connected(link.name);
    watch.follow(link.name, connected);
    void pushEnvironments(app, link.name, connected.peer)
      .then(() => app.flush(link.name))
      .catch(() => {});
  },
});

/** Whether anybody would notice that a host is back: something waits to be sent, or its zones are in use. */
const isWanted = (app: App, link: Link): boolean => {
  if (app.outbox.first(link.name)) return true;
  const now = Date.now();
  const inUse = app.bindings.all().some((b) => b.host === link.name && now - b.usedMs < IN_USE_MS);
  return link.name !== 'local' && inUse && now - (link.lastSeenMs() ?? 0) < GIVE_UP_IDLE_MS;
};

export const createLinks = (spec: HubSpec, appOf: () => App, watch: ZoneWatch): Links => {
  const links = new Map<string, Link>();
  const backends = new Map<string, SshWay['backend']>();
  /** The surroundings of the last caller who came with all of them, by host: what dials by itself uses them. */
  const lastEnv = new Map<string, Lender['env']>();
  const events = eventsOf(appOf, watch);

  const wayTo = (host: string): Dial => {
    const zonesThere = () =>
      appOf()
        .bindings.all()
        .filter((binding) => binding.host === host);
    const { dial, backend } = dialSsh(spec, host, () => forcedBackend(zonesThere()));
    backends.set(host, backend);
    return dial;
  };

  const make = (host: string): Link => {
    const way = host === 'local' ? dialLocal(spec) : wayTo(host);
    const dial: typeof way = (lender, ...rest) => {
      lastEnv.set(host, lender.env);
      return way(lender, ...rest);
    };
    const made = createLink({ name: host, build: spec.build, dial, events, pings: host !== 'local' });
    links.set(host, made);
    if (host !== 'local') surroundings.watch();
    return made;
  };

  const linkTo = (host: string): Link => links.get(host) ?? make(host);
  const redial = createRedial({
    link: linkTo,
    env: (host) => lastEnv.get(host) ?? process.env,
    wanted: (host) => isWanted(appOf(), linkTo(host)),
  });
  const surroundings = createSurroundings(() => {
    for (const one of links.values()) {
      if (one.name === 'local') continue;
      one.doubt();
      if (!one.current()) redial.afresh(one.name);
    }
  });

  return {
    link: (host) => {
      const made = linkTo(host);
      return {
        ...made,
        connect: (lender) => {
          if (!made.current()) redial.person(host);
          return made.connect(lender);
        },
      };
    },
    all: () => [...links.values()],
    backend: (host) => backends.get(host)?.(),
    redial,
    stop: () => {
      surroundings.stop();
      redial.stop();
    },
  };
};
