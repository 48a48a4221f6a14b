import type { App } from '../app.ts';
import { openBindings } from '../bindings.ts';
import { createCarrier } from '../carrier.ts';
import { createFlusher } from '../flush.ts';
import { createKnown } from '../known.ts';
import { openOutbox } from '../outbox.ts';
import { createAuto } from '../patches/auto.ts';
import { pruneMail } from '../shell-state.ts';
import { createLinks } from './links.ts';
import type { HubSpec } from './serve.ts';
import { createZoneWatch } from './zone-watch.ts';

/** Puts together what the hub holds for all commands. */

/** A shell reads its mailbox at its next prompt: one that did not for so long is gone, and its mailbox with it. */
const MAIL_KEPT_MS = 30 * 24 * 3600_000;

export const createApp = (spec: HubSpec, stop: (leaves: boolean) => void): App => {
  const watch = createZoneWatch(() => app);
  const links = createLinks(spec, () => app, watch);
  const app: App = {
    home: spec.home,
    version: spec.version,
    bindings: openBindings(spec.home.zones),
    outbox: openOutbox(spec.home.outbox),
    link: links.link,
    links: links.all,
    backend: links.backend,
    environments: new Map(),
    shellSessions: new Map(),
    known: createKnown(spec.home, () => app),
    flush: createFlusher(() => app),
    redial: links.redial,
    carrier: createCarrier(() => app),
    auto: createAuto(() => app),
    watchZone: watch.include,
    stop: (leaves = false) => {
      app.auto.close();
      watch.stop();
      links.stop();
      stop(leaves);
    },
  };
  pruneMail(spec.home.root, MAIL_KEPT_MS);
  // What a hub that was killed had accepted goes on its way by itself.
  for (const host of new Set(app.outbox.list().map(({ entry }) => entry.host))) links.redial.soon(host);
  for (const binding of app.bindings.all()) app.auto.hint(binding);
  return app;
};
