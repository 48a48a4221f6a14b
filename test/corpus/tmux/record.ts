/**
 * Records what the tmux on the PATH writes in control mode. `node test/corpus/tmux/record.ts` writes NAME.in (the
 * commands), NAME.out (the raw bytes) and meta.json next to this file; tests record single cases anew.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A line for tmux, and what must have come after it before the next one is sent: by default the end of its block. */
type Step = { send: string; until: string };
type Case = { argv?: string[]; steps: Step[]; end: 'kill-server' | 'eof' | 'sigkill' | 'none' };

const DEADLINE_MS = 10_000;
const BLOCK_END = '(^|\\n)%(end|error) \\d+ \\d+ 1\\n';
const asked = (...lines: string[]): Step[] => lines.map((send) => ({ send, until: BLOCK_END }));
const until = (send: string, pattern: string): Step => ({ send, until: pattern });
const SH = "sh -c 'stty raw -echo;";

export const CASES: Record<string, Case> = {
  basic: { steps: asked('display-message -p hello', 'list-windows', 'nonsense'), end: 'kill-server' },
  windows: {
    steps: [
      ...asked('new-window -d -n "a name  with spaces" cat', 'rename-window -t :1 "b : c %d"', 'split-window -d cat'),
      ...asked('select-pane -t :.1', 'select-window -t :1', 'rename-session "two words"', 'kill-window -t :0'),
      ...asked('copy-mode', 'new-session -d -s other cat', 'kill-session -t other'),
    ],
    end: 'kill-server',
  },
  bytes: {
    steps: [
      until(
        `new-window "${SH} i=1; while [ \\$i -le 255 ]; do printf \\\\\\\\\\$(printf %03o \\$i); i=\\$((i+1)); done; printf DONE; cat'"`,
        'DONE',
      ),
    ],
    end: 'kill-server',
  },
  utf8split: {
    steps: [
      until(
        `new-window "${SH} i=0; while [ \\$i -lt 600 ]; do printf €€€€€€€€€€€€€€€€€€€€; i=\\$((i+1)); done; printf DONE; cat'"`,
        'DONE',
      ),
    ],
    end: 'kill-server',
  },
  subs: {
    steps: [
      until('refresh-client -B "count:%*:#{pane_id} : #{window_name}"', '%subscription-changed count [^\\n]*\\n'),
      until('refresh-client -B "all:@*:#{window_index}"', '%subscription-changed all [^\\n]*\\n'),
    ],
    end: 'kill-server',
  },
  pause: {
    steps: [
      ...asked('refresh-client -f pause-after=1', 'refresh-client -A "%0:pause"', 'refresh-client -A "%0:continue"'),
      until('send-keys -l -t %0 hello', '%extended-output [^\\n]*hello'),
    ],
    end: 'kill-server',
  },
  hooks: {
    steps: [
      ...asked('set-hook -g window-renamed "display-message -p stray-from-a-hook"'),
      until('rename-window again', 'stray-from-a-hook\\n'),
    ],
    end: 'kill-server',
  },
  buffers: { steps: asked('set-buffer -b one "some text"', 'show-buffer -b one', 'delete-buffer -b one'), end: 'eof' },
  spoof: {
    steps: [
      until(
        'new-window -d "printf \'%%end 1 2 1\\n%%exit\\n%%output %%1 x\\n%%begin 1 1 1\\n%%pause %%0\\nLAST\'; cat"',
        'LAST',
      ),
      ...asked('capture-pane -p -t :1'),
    ],
    end: 'kill-server',
  },
  nosession: { argv: ['attach-session', '-t', 'nobody'], steps: [], end: 'none' },
  killserver: { steps: asked('display-message -p before'), end: 'kill-server' },
  kill9: { steps: asked('display-message -p before'), end: 'sigkill' },
  detach: { steps: [until('detach-client', '%exit')], end: 'none' },
  emptyline: { steps: [until('', '%exit')], end: 'none' },
  eof: { steps: [], end: 'eof' },
};

/** Runs one case on a private server and returns the bytes that the control client wrote, and its exit code. */
export const record = async (name: string): Promise<{ out: Buffer; rc: number | null }> => {
  const spec = CASES[name];
  if (!spec) throw new Error(`no case ${name}`);
  const dir = mkdtempSync(join(tmpdir(), 'khlone-record-'));
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', TERM: 'xterm' };
  const tmux = ['-u', '-S', join(dir, 's'), '-f', '/dev/null'];
  const start = spec.argv ?? ['new-session', '-A', '-s', 'main', '-x', '80', '-y', '24', 'cat'];
  const client = spawn('tmux', [...tmux, '-C', ...start], { env, cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => client.on('close', resolve));
  client.stdin.on('error', () => {});
  let out = Buffer.alloc(0);
  let look = (): void => {};
  client.stdout.on('data', (chunk: Buffer) => {
    out = Buffer.concat([out, chunk]);
    look();
  });
  const seen = (pattern: string, from: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${name}: no ${pattern}`)), DEADLINE_MS);
      look = () => {
        if (!new RegExp(pattern).test(out.toString('latin1', from))) return;
        clearTimeout(late);
        look = () => {};
        resolve();
      };
      look();
    });
  try {
    if (!spec.argv) await seen('%session-changed', 0);
    for (const step of spec.steps) {
      const from = out.length;
      client.stdin.write(`${step.send}\n`);
      await seen(step.until, from);
    }
    const pid = Number(spec.end === 'sigkill' && execFileSync('tmux', [...tmux, 'display-message', '-p', '#{pid}']));
    if (spec.end === 'sigkill') process.kill(pid, 'SIGKILL');
    if (spec.end === 'kill-server') client.stdin.write('kill-server\n');
    if (spec.end === 'eof') client.stdin.end();
    const rc = await ended;
    return { out, rc };
  } finally {
    client.kill('SIGKILL');
    try {
      execFileSync('tmux', [...tmux, 'kill-server'], { env, stdio: 'ignore' });
    } catch {} // Most cases have ended it.
    rmSync(dir, { recursive: true, force: true });
  }
};

if (import.meta.main) {
  const rc: Record<string, number | null> = {};
  for (const [name, { steps, end }] of Object.entries(CASES)) {
    const recorded = await record(name);
    rc[name] = recorded.rc;
    const lines = [...steps.map(({ send }) => `${send}\n`), end === 'kill-server' ? 'kill-server\n' : ''];
    writeFileSync(join(import.meta.dirname, `${name}.in`), lines.join(''));
    writeFileSync(join(import.meta.dirname, `${name}.out`), recorded.out);
  }
  const version = execFileSync('tmux', ['-V'], { encoding: 'utf8' }).trim();
  writeFileSync(join(import.meta.dirname, 'meta.json'), `${JSON.stringify({ version, rc }, undefined, 2)}\n`);
}
