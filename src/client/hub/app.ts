import type { Duplex } from 'node:stream';
import type { App } from '../app.ts';
import { openBindings } from '../bindings.ts';
import { pushEnvironments } from '../environments.ts';
import { createFlusher } from '../flush.ts';
import { createKnown } from '../known.ts';
import { createLink, type LinkEvents } from '../link/connection.ts';
import type { Lender, Link } from '../link/link.ts';
import { dialLocal } from '../link/local.ts';
import { openOutbox } from '../outbox.ts';
import type { HubSpec } from './serve.ts';
import { createZoneWatch } from './zone-watch.ts';

/** Puts together what the hub holds for all commands. */

const dialSsh =
  (spec: HubSpec, host: string) =>
  async (
    lender: Lender,
    signal: AbortSignal,
    installing: (yes: boolean) => void,
  ): Promise<{ duplex: Duplex; close(): void }> => {
    // Loaded when the first ssh zone is used: a local zone never pays for it.
    const { openSshWire } = await import('../link/ssh2.ts');
    const agent = lender.env.SSH_AUTH_SOCK;
    const progress = (line: string): void => {
      installing(true);
      lender.progress?.(line);
    };
    return openSshWire(
      { host, home: spec.home.root, env: { ...lender.env }, ...(agent && { sshAuthSock: agent }) },
      lender.ask ? { ask: lender.ask } : undefined,
      { serverBundle: spec.serverBundle, version: spec.version, signal, progress },
    );
  };

export const createApp = (spec: HubSpec, stop: () => void): App => {
  const links = new Map<string, Link>();
  const watch = createZoneWatch(() => app);
  const events: LinkEvents = {
    onChange: (link) => {
      for (const binding of app.bindings.all()) if (binding.host === link.name) app.known.touch(binding.zone);
    },
    onOnline: (link, connected) => {
      watch.follow(link.name, connected);
      void pushEnvironments(app, link.name, connected.peer)
        .then(() => app.flush(link.name))
        .catch(() => {});
    },
  };
  const link = (host: string): Link => {
    const known = links.get(host);
    if (known) return known;
    const dial = host === 'local' ? dialLocal(spec) : dialSsh(spec, host);
    const made = createLink({ name: host, build: spec.build, dial, events, pings: host !== 'local' });
    links.set(host, made);
    return made;
  };
  const app: App = {
    home: spec.home,
    version: spec.version,
    bindings: openBindings(spec.home.zones),
    outbox: openOutbox(spec.home.outbox),
    link,
    links: () => [...links.values()],
    environments: new Map(),
    shellSessions: new Map(),
    known: createKnown(spec.home, () => app),
    flush: createFlusher(() => app),
    watchZone: watch.include,
    stop: () => {
      watch.stop();
      stop();
    },
  };
  return app;
};
