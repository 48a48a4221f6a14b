import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sight } from '../../src/protocol/attach.ts';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { call, type TestServer, until } from '../fixtures/server.ts';

/** A terminal in small: types into `attach.open`, and keeps what was drawn. */

export const newViewer = (): string => `v-${randomBytes(8).toString('hex')}`;

export const SIZE = { columns: 100, rows: 30 };

export type End = { parting: string; exitCode?: number };

export type Viewer = {
  viewer: string;
  /** How much had been typed into it when this terminal came. */
  typed: { of: string; bytes: number };
  /** All bytes that were drawn, as Latin-1: what a terminal would obey can be looked for. */
  drawn(): string;
  /** Forgets what was drawn until now. */
  clear(): void;
  type(text: string): void;
  sees(what: string | RegExp, deadlineMs?: number): Promise<void>;
  resize(columns: number, rows: number): Promise<unknown>;
  /** Resolves at the end of the bytes: undefined, or the error that ended them. */
  over: Promise<unknown>;
  /** Cancels the call, as a client that goes away. */
  cancel(): void;
  /** Reads no more, as a terminal that was stopped. */
  stall(): void;
};

/** `early`: typed with the opening itself. */
type Wish = {
  early?: string;
  viewer?: string;
  size?: { columns: number; rows: number };
  term?: string;
  utf8?: boolean;
};

export const terminalOf = ({ size = SIZE, term = 'xterm-256color', utf8 = true }: Wish) => ({
  ...size,
  term,
  utf8,
});

export const openViewer = async (
  peer: Peer,
  zone: ZoneSpec,
  sight: Sight,
  wish: Wish = {},
): Promise<Viewer> => {
  const viewer = wish.viewer ?? newViewer();
  const leave = new AbortController();
  const typed: string[] = wish.early === undefined ? [] : [wish.early];
  let wake = (): void => undefined;
  let [text, stalled] = ['', false];
  async function* typing(): AsyncGenerator<Uint8Array> {
    for (;;) {
      for (let word = typed.shift(); word !== undefined; word = typed.shift()) yield Buffer.from(word);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
  const { value, body } = await peer.call(
    'attach.open',
    { zone: zone.id, viewer, sight, terminal: terminalOf(wish) },
    { body: typing(), klass: 'interactive', signal: leave.signal },
  );
  const read = async (): Promise<unknown> => {
    try {
      for await (const bytes of body ?? []) {
        text += Buffer.from(bytes).toString('latin1');
        if (stalled) await new Promise(() => undefined);
      }
      return undefined;
    } catch (thrown) {
      return thrown;
    }
  };
  const over = read();
  return {
    viewer,
    typed: (value as Pick<Viewer, 'typed'>).typed,
    drawn: () => text,
    clear: () => {
      text = '';
    },
    type: (word) => {
      typed.push(word);
      wake();
    },
    sees: (what, deadlineMs) =>
      until(
        `${what} on the screen`,
        () => (typeof what === 'string' ? text.includes(what) : what.test(text)),
        deadlineMs,
      ).catch((thrown) => {
        throw new Error(`${thrown.message}; drawn: ${JSON.stringify(text.slice(-1500))}`);
      }),
    resize: (columns, rows) => peer.call('attach.resize', { viewer, columns, rows }),
    over,
    cancel: () => leave.abort(),
    stall: () => {
      stalled = true;
    },
  };
};

export const endOf = (peer: Peer, viewer: string): Promise<End> => call<End>(peer, 'attach.end', { viewer });

/** What tmux itself says, asked from outside. */
export const askTmux = (server: TestServer, ...words: string[]): string => {
  try {
    return execFileSync('tmux', ['-u', '-S', server.home.tmuxSocket, ...words], {
      encoding: 'utf8',
      env: server.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch {
    return '';
  }
};

/** The viewers that tmux holds. */
export const viewersIn = (server: TestServer): string[] =>
  askTmux(server, 'list-sessions', '-F', '#{session_name}')
    .split('\n')
    .filter((name) => name.startsWith('v-'));

/** What stands in a viewer's pane, by tmux's own account. */
export const paneOf = (server: TestServer, viewer: string, ...more: string[]): string =>
  askTmux(server, 'capture-pane', '-p', ...more, '-t', `=${viewer}:`);

export type Screen = { text(): string; keys(...keys: string[]): void; isOver(): boolean };

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/**
 * A terminal on this machine that runs what `attach.prepare` answered: a tmux of the test's own, which is a terminal
 * that can be read. It says `over` where the program has ended.
 */
export const openScreen = async (
  peer: Peer,
  server: TestServer,
  wished: { zone: ZoneSpec; sight: Sight; viewer: string; size?: { columns: number; rows: number } },
): Promise<Screen> => {
  const { zone, sight, viewer, size = SIZE } = wished;
  const { argv, env } = await call<{ argv: string[]; env: Record<string, string> }>(peer, 'attach.prepare', {
    ...{ zone: zone.id, viewer, sight },
    terminal: terminalOf({ size, term: 'screen-256color' }),
  });
  const name = randomBytes(4).toString('hex');
  const program = join(server.work, `${name}.sh`);
  const words = [...Object.entries(env).map(([key, value]) => `${key}=${value}`), ...argv].map(quoted);
  writeFileSync(program, `env -i ${words.join(' ')}\necho over\nexec sleep 600\n`);
  const ask = (...more: string[]): string =>
    execFileSync('tmux', ['-u', '-S', join(server.work, 'screens.sock'), '-f', '/dev/null', ...more], {
      encoding: 'utf8',
      env: { ...server.env, TERM: 'xterm' },
    });
  const geometry = ['-x', String(size.columns), '-y', String(size.rows)];
  ask('new-session', '-d', '-s', name, ...geometry, '--', '/bin/sh', program);
  const text = (): string => ask('capture-pane', '-p', '-t', `=${name}:`);
  return {
    text,
    keys: (...keys) => void ask('send-keys', '-t', `=${name}:`, ...keys),
    isOver: () => text().includes('over'),
  };
};
