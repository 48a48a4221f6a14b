import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { bare, type Place, type Shell } from './fake-khlone.ts';

const run = promisify(execFile);

export type Terminal = {
  /** Types keys as tmux names them; a plain word is typed as it is. */
  keys(...keys: string[]): Promise<void>;
  /** Types a line and Enter. */
  line(text: string): Promise<void>;
  /** The screen, once it satisfies the pattern; throws with the screen after 25 s, before the test itself is over. */
  until(pattern: RegExp): Promise<string>;
  end(): Promise<void>;
};

const POLL_MS = 25;
const DEADLINE_MS = 25_000;

/** An interactive shell in a real terminal: a tmux server of its own, without anybody's configuration. */
export const openTerminal = async (shell: Shell, place: Place): Promise<Terminal> => {
  const tmux = (...words: string[]) =>
    run('tmux', ['-u', '-S', join(place.root, 'tmux.sock'), '-f', '/dev/null', ...words], { env: place.env });
  await tmux(
    'new-session',
    '-d',
    '-x',
    '120',
    '-y',
    '24',
    '-c',
    place.root,
    '--',
    shell.path,
    ...bare(shell),
  );
  const screen = async () => (await tmux('capture-pane', '-p')).stdout;

  const until = async (pattern: RegExp): Promise<string> => {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const now = await screen();
      if (pattern.test(now)) return now;
      if (Date.now() > deadline) throw new Error(`no ${pattern} on the screen:\n${now}`);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  };
  const line = async (text: string) => {
    await tmux('send-keys', '-l', text);
    await tmux('send-keys', 'Enter');
  };
  return {
    until,
    line,
    keys: async (...keys) => void (await tmux('send-keys', ...keys)),
    end: async () => void (await tmux('kill-server').catch(() => {})),
  };
};
