import type { Duplex } from 'node:stream';
import type { SshSettings } from './ssh-config.ts';
import type { OpenPty } from './ssh-pty.ts';
import type { Spawn } from './ssh-relay.ts';

/** Asks the person at the terminal of the command that needs the link; undefined: there is no terminal. */
export type Asker = { ask(question: { text: string; secret: boolean }): Promise<string> } | undefined;

/** A host as the user wrote it, with the caller's surroundings: the hub's own environment plays no part. */
export type SshTarget = {
  /** A Host of ssh_config, or user@host:port. */
  host: string;
  /** The caller's SSH_AUTH_SOCK. */
  sshAuthSock?: string;
  /** KHLONE_HOME of this machine. */
  home: string;
  env: Record<string, string | undefined>;
};

/** One exec channel to a host's khlone-server: its bytes are the framed protocol, nothing before, nothing between. */
export type Wire = {
  readonly duplex: Duplex;
  close(): void;
  /** One round trip in milliseconds as TCP measured it; absent behind a jump host or a proxy. */
  readonly rttMs?: number;
  /** Opens a terminal on the host, on a channel beside this one or over a login of its own; absent where there is no way. */
  readonly openPty?: OpenPty;
  /** Runs a command on a channel beside this one; absent where that would take a login of its own. */
  readonly spawn?: Spawn;
  /** Settles when the connection is gone, with the reason if there was one. */
  readonly closed: Promise<Error | undefined>;
};

export type WireDeps = {
  /** Path of dist/khlone-server.mjs. */
  readonly serverBundle: string;
  readonly version: string;
  readonly signal: AbortSignal;
  /** Called with a line worth showing when a host is set up, which takes a while the first time. */
  readonly progress?: (line: string) => void;
  /** Called with a line that a person must see now: their key waits for a touch. */
  readonly notice?: (line: string) => void;
  /** The hosts to pass where they are known already; else they are asked for by `ssh -G`. */
  readonly route?: readonly SshSettings[];
};
