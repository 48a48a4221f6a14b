import type { KhloneError } from '../../protocol/error.ts';
import type { Peer } from '../../protocol/peer.ts';
import type { Question } from '../caller.ts';
import type { LinkState } from './link-state.ts';
import type { OpenPty } from './ssh-pty.ts';
import type { Spawn } from './ssh-relay.ts';

/** The way to a zone's server: local by its socket, or the one SSH connection to its host. */

export type { LinkState } from './link-state.ts';

/** What a caller lends a link while it connects: its ssh agent, its environment, its terminal. */
export type Lender = {
  env: Readonly<Record<string, string | undefined>>;
  ask: ((question: Question) => Promise<string>) | undefined;
  /** Steps worth a line while a person waits: a first setup of a host takes a while. */
  progress?: (line: string) => void;
};

export type ServerFacts = { uuid: string; boot: string; build: string; host: string; home: string };

export type Connected = {
  peer: Peer;
  server: ServerFacts;
  /** Makes a terminal on the host without its server's help; absent where the way there cannot. */
  openPty?: OpenPty;
  /** Runs a command on a channel of its own; absent where that would be a login of its own. */
  spawn?: Spawn;
};

export type Link = {
  /** `local`, or the host as the person wrote it. */
  readonly name: string;
  state(): LinkState;
  /** When the last byte came, in ms since the epoch. */
  lastSeenMs(): number | undefined;
  /** Why it is offline or refused. */
  trouble(): KhloneError | undefined;
  /** What a dial is busy with that may take its time: a person who is asked, the first setup of a host. */
  busyWith(): 'person' | 'setup' | undefined;
  /** Whether a dial is under way. */
  dialing(): boolean;
  /** The connection, made when there is none. Throws unreachable, host-key, ssh-auth, remote-setup, version. */
  connect(lender: Lender): Promise<Connected>;
  /** Something happened that breaks connections (sleep, another network): asks the one that is there for a sign. */
  doubt(): void;
  /** Hangs up on a connection that gives no sign of life within `withinMs`; true where one is there and lives. */
  verify(withinMs: number): Promise<boolean>;
  /**
   * True as soon as the connection that is there says anything, or another one took its place; false where there is none,
   * or after `withinMs`. What said something just now is not asked. Hangs up on nothing.
   */
  answers(withinMs: number): Promise<boolean>;
  /** A person looks at what comes, until the returned function is called: silence is noticed sooner meanwhile. */
  lookAt(): () => void;
  /** The connection if it is there now. */
  current(): Connected | undefined;
  close(): void;
};
