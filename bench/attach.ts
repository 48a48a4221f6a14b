import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createTypedKeys } from '../src/client/attach/typed.ts';
import { createPeer } from '../src/protocol/peer.ts';
import { socketPathIn } from '../src/protocol/resident.ts';
import { createFarWorld, type FarWorld, zoneYml } from '../test/ssh/far-world.ts';
import { faultLine } from '../test/ssh/fault-line.ts';
import { median, percentile, type Row } from './row.ts';

/**
 * A key's echo over a line of 50 ms, the whole way that a terminal's program has: hub, held link, sshd, the program that
 * makes the terminal, a tmux client, a shell; and back. Beside it `ssh -tt`, alone and with a tmux, over the same line in turns.
 */

const RTT_MS = 50;
const ROUNDS = 4;
const KEYS = 30;
const UPLOAD_FILES = 6;
const UPLOAD_FILE_BYTES = 8_750_000;
const BYTES_PER_SECOND = 10_000_000;
const EXTRA_MS = 1.5;
const PATIENCE_MS = 15_000;
/** A terminal that was left alone between keys, and not one that reads a file. */
const PAUSE_MS = 8;
/** Letters that no escape sequence of tmux ends with. */
const LETTERS = 'zyvw';

type Terminal = { type(text: string): void; output: AsyncIterator<Uint8Array>; end(): void };

const readUntil = async ({ output }: Terminal, text: string): Promise<void> => {
  let said = '';
  const late = AbortSignal.timeout(PATIENCE_MS);
  while (!said.includes(text)) {
    const { value, done } = await output.next();
    if (done || late.aborted) throw new Error(`the terminal said ${JSON.stringify(said.slice(-300))}`);
    said += Buffer.from(value).toString('latin1');
  }
};

/** A program that reads and says nothing: what comes back is the terminal's echo. */
const quiet = async (terminal: Terminal): Promise<void> => {
  terminal.type('printf "re%s\\n" ady; exec cat >/dev/null\r');
  await readUntil(terminal, 'ready');
  await delay(200);
};

const echoMs = async (terminal: Terminal, n: number): Promise<number> => {
  const letter = LETTERS[n % LETTERS.length] ?? 'z';
  const begun = performance.now();
  terminal.type(letter);
  await readUntil(terminal, letter);
  return performance.now() - begun;
};

const echoes = async (terminal: Terminal): Promise<number[]> => {
  const times: number[] = [];
  for (let n = 0; n < KEYS; n += 1) {
    times.push(await echoMs(terminal, n));
    await delay(PAUSE_MS);
  }
  terminal.type('\r');
  await delay(2 * RTT_MS);
  return times;
};

const throughKhlone = async (far: FarWorld): Promise<Terminal> => {
  const peer = createPeer(connect(socketPathIn(far.home.root, 'hub')), {});
  const zone = /"(z-[0-9a-z]{16})"/.exec((await far.ok(['status', '--json'])).stdout)?.[1];
  const typed = createTypedKeys();
  const keys = typed.open();
  const params = {
    ...{ zone, viewer: 'v-0123456789abcdef', sight: { kind: 'shell' } },
    terminal: { columns: 100, rows: 24, term: 'xterm', utf8: true },
  };
  const call = { host: far.sshd.host, env: far.env, name: 'attach.open', params };
  const answer = await peer.call('attach', call, {
    body: keys.body,
    klass: 'interactive',
    timeoutMs: PATIENCE_MS,
  });
  keys.begin(undefined);
  if (!answer.body) throw new Error('the attach showed nothing');
  return {
    type: (text) => void typed.push(Buffer.from(text)),
    output: answer.body[Symbol.asyncIterator](),
    end: () => peer.close(),
  };
};

const throughSsh = (far: FarWorld, words: string): Terminal => {
  const child: ChildProcess = spawn('ssh', ['-tt', far.sshd.host, words], {
    ...{ env: { ...far.env, TERM: 'xterm' }, stdio: ['pipe', 'pipe', 'ignore'] },
  });
  return {
    type: (text) => void child.stdin?.write(text),
    output: (child.stdout as Readable)[Symbol.asyncIterator](),
    end: () => void child.kill('SIGKILL'),
  };
};

/** Keys while another zone's code goes up over the same link. */
const besideUpload = async (far: FarWorld, terminal: Terminal): Promise<number[]> => {
  const cwd = far.repository('big', {
    ...{ branch: 'main', origin: 'git@nowhere.invalid:org/big.git' },
    files: { 'khlone.yml': zoneYml(far.sshd.host) },
  });
  for (let n = 0; n < UPLOAD_FILES; n += 1)
    writeFileSync(join(cwd, `noise-${n}`), randomBytes(UPLOAD_FILE_BYTES));
  await far.ok(['trust', '--yes'], { cwd });
  const act = far.start(['act', '--who', '@sh', '--await', 'true'], { cwd, limitMs: 120_000 });
  let isOver = false;
  void act.ended.finally(() => {
    isOver = true;
  });
  const times: number[] = [];
  while (!isOver) {
    times.push(await echoMs(terminal, times.length));
    await delay(PAUSE_MS);
    if (times.length % KEYS === 0) terminal.type('\r');
  }
  const { code, stderr } = await act.ended;
  if (code !== 0) throw new Error(`the upload failed: ${stderr}`);
  return times;
};

const rowsOf = (times: Record<'khlone' | 'ssh' | 'sshTmux' | 'beside', number[]>): Row[] => {
  const [own, ssh, tmux] = [median(times.khlone), median(times.ssh), median(times.sshTmux)];
  const p95 = percentile(times.beside, 0.95);
  const extra = (name: string, value: number, anchor: string, target: string): Row => ({
    ...{ name, value, unit: 'ms', anchor, target },
  });
  return [
    {
      ...extra('a key in attach, extra', own - ssh, `ssh -tt ${ssh.toFixed(1)} ms`, `≤ ${EXTRA_MS} ms`),
      ok: own - ssh <= EXTRA_MS,
    },
    extra('  the same against ssh -tt with tmux', own - tmux, `ssh -tt tmux ${tmux.toFixed(1)} ms`, '–'),
    {
      ...{ name: 'a key while 52 MB go up at 10 MB/s, p95', value: p95, unit: 'ms', ratio: p95 / RTT_MS },
      ...{ anchor: `round trip ${RTT_MS} ms, ${times.beside.length} keys`, target: '≤ 3×' },
      ok: p95 <= 3 * RTT_MS,
    },
  ];
};

export const benchAttach = async (): Promise<Row[]> => {
  const far = await createFarWorld();
  const line = await faultLine(far.sshd, { delayMs: RTT_MS / 2 });
  const open: Terminal[] = [];
  try {
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    const own = await throughKhlone(far);
    const ssh = throughSsh(far, 'exec sh');
    const tmux = throughSsh(far, 'exec tmux -f /dev/null -L bench new-session sh');
    open.push(own, ssh, tmux);
    for (const terminal of open) await quiet(terminal);
    const times: Record<'khlone' | 'ssh' | 'sshTmux', number[]> = { khlone: [], ssh: [], sshTmux: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      times.khlone.push(...(await echoes(own)));
      times.ssh.push(...(await echoes(ssh)));
      times.sshTmux.push(...(await echoes(tmux)));
    }
    line.rate.up = BYTES_PER_SECOND;
    return rowsOf({ ...times, beside: await besideUpload(far, own) });
  } finally {
    for (const terminal of open) terminal.end();
    await far.dispose();
    line.close();
  }
};
