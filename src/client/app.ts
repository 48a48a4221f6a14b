import type { ZoneView } from '../protocol/calls.ts';
import type { Home } from '../protocol/home.ts';
import type { Binding, Bindings } from './bindings.ts';
import type { Env } from './caller.ts';
import type { Carrier } from './carrier.ts';
import type { BackendChoice } from './link/choose-backend.ts';
import type { Link } from './link/link.ts';
import type { Redial } from './link/redial.ts';
import type { Outbox } from './outbox.ts';
import type { Auto } from './patches/auto.ts';

/** What the hub holds for all commands: links, outbox, bindings, environments, and what was last known. */
export type App = {
  home: Home;
  version: string;
  bindings: Bindings;
  outbox: Outbox;
  /** The link of a host, made on first use: one per host whatever the number of zones and shells. */
  link(host: string): Link;
  links(): Link[];
  /** Which program spoke SSH to a host at the last dial, and why; undefined where none was. */
  backend(host: string): BackendChoice | undefined;
  /** Environment or secrets of a zone's clones: memory only. */
  environments: Map<string, Env>;
  /** The session that a shell dispatched in last, by the plugin's shell id. */
  shellSessions: Map<string, string>;
  /** The last view of each zone, and when it was taken. */
  known: Known;
  /** Sends what waits for a host, in order, over the connection that is there; throws what ended it early. */
  flush(host: string): Promise<void>;
  /** Brings lost connections back. */
  redial: Redial;
  /** Brings the code of zones that wait for it. */
  carrier: Carrier;
  /** Patches that travel by themselves. */
  auto: Auto;
  /** Keeps the prompt line of a zone true from now on. */
  watchZone(binding: Binding): void;
  /** Ends the hub once the running commands have ended; with `leaves` what it made goes with it. */
  stop(leaves?: boolean): void;
};

export type Known = {
  get(zone: string): { view: ZoneView; atMs: number } | undefined;
  put(view: ZoneView): void;
  forget(zone: string): void;
  /** Writes the zone's line for prompts anew: link or outbox changed. */
  touch(zone: string): void;
};
