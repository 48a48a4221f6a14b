import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { asKhloneError, type KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { connectHub } from '../hub-connection.ts';
import { type HereTerminal, lendTerminal, takeTerminal } from '../terminal/here.ts';
import { loadPty, type SpawnPty } from '../terminal/pty.ts';
import { endOf } from './ended.ts';
import { farWay } from './far-way.ts';
import { createHubLine, type HubLine } from './hub-line.ts';
import { look } from './look.ts';
import { nearWay, type Program, prepare } from './near-way.ts';
import type { AttachOrder } from './order.ts';
import type { Ended, Way } from './visit.ts';
import { linesFor, summaryOf } from './words.ts';

/** `khlone attach`, once the hub has found what is meant: this program has the terminal, and gives it back. */

const INTERRUPTED = 130;
/** The end of a viewer is told to its server in passing: who leaves does not wait for a host. */
const TELL_WITHIN_MS = 300;
const MESSAGE_CHARS = 2_000;
/** Signals that would end the process where it stands; the others end `signal`. */
const ENDING = ['SIGHUP', 'SIGQUIT'] as const;

type Attach = { order: AttachOrder; line: HubLine; viewer: string; term: string; signal: AbortSignal };
type Outcome = Ended | 'here';

const lookOver = async ({ order, line, signal }: Attach, way: Way): Promise<Outcome> => {
  const here: HereTerminal = takeTerminal();
  let outcome: Outcome;
  try {
    outcome = await look(way, here, linesFor(order), signal);
  } finally {
    here.giveBack();
  }
  if (outcome === 'here' && line.isOpen()) await way.end(AbortSignal.timeout(TELL_WITHIN_MS)).catch(() => {});
  return outcome;
};

/** Runs it until it ends; `tell` sends it a signal meanwhile. */
const runHere = (
  { argv, env }: Program,
  signal: AbortSignal,
): { ended: Promise<void>; tell(name: NodeJS.Signals): void } => {
  const child = spawn(argv[0] ?? 'false', argv.slice(1), { env, cwd: '/', stdio: 'inherit' });
  const ended = new Promise<void>((resolve) => {
    const hangUp = (): void => void child.kill('SIGHUP');
    signal.addEventListener('abort', hangUp);
    child.on('error', () => resolve());
    child.on('close', () => resolve());
  });
  return { ended, tell: (name) => void child.kill(name) };
};

/** Without node-pty the program has the terminal itself: Ctrl-D and tmux's own keys leave, `~.` does not. */
const lendHere = async ({ order, line, viewer, term, signal }: Attach): Promise<Outcome> => {
  const program = await prepare(line, order, viewer, term, signal);
  let running: ReturnType<typeof runHere> | undefined;
  const giveBack = lendTerminal(
    // tmux's client ignores the signal of the key, and would go on drawing.
    () => running?.tell('SIGSTOP'),
    () => {
      running?.tell('SIGCONT');
      // It draws all anew at each word of a size, also of the same one.
      running?.tell('SIGWINCH');
    },
  );
  try {
    running = runHere(program, signal);
    await running.ended;
  } finally {
    giveBack();
  }
  const ended = await endOf(
    line,
    viewer,
  )(signal.aborted ? AbortSignal.timeout(TELL_WITHIN_MS) : signal).catch((thrown) => {
    if (!signal.aborted) throw thrown;
  });
  return signal.aborted || !ended ? 'here' : ended;
};

const attach = async (given: Attach): Promise<Outcome> => {
  const { order, line, viewer, term } = given;
  if (order.host !== 'local') return lookOver(given, farWay(line, order, viewer, term));
  const spawnPty: SpawnPty | undefined = await loadPty();
  return spawnPty ? lookOver(given, nearWay(line, order, viewer, term, spawnPty)) : lendHere(given);
};

const tell = (error: KhloneError, utf8: boolean): number => {
  const [failed, next] = utf8 ? ['✗', '↳'] : ['x', '->'];
  const hint = error.hint ? `  ${next} ${oneLine(error.hint, MESSAGE_CHARS)}\n` : '';
  process.stderr.write(`${failed} ${oneLine(error.message, MESSAGE_CHARS)}\n${hint}`);
  return error.exit;
};

/** Looks where the order says, at this process's terminal, and answers the exit code. Never throws. */
export const attachHere = async (
  order: AttachOrder,
  signal: AbortSignal,
  connect: () => Promise<Duplex> = connectHub,
): Promise<number> => {
  const ending = new AbortController();
  const onEnding = (): void => ending.abort();
  for (const name of ENDING) process.on(name, onEnding);
  const line = createHubLine(connect, order.host, process.env);
  const both = AbortSignal.any([signal, ending.signal]);
  try {
    const viewer = `v-${randomBytes(8).toString('hex')}`;
    const outcome = await attach({ order, line, viewer, term: process.env.TERM ?? '', signal: both });
    if (both.aborted) return INTERRUPTED;
    if (!order.quiet) process.stderr.write(`${summaryOf(order, outcome)}\n`);
    return outcome === 'here' ? 0 : (outcome.exitCode ?? 0);
  } catch (thrown) {
    return both.aborted ? INTERRUPTED : tell(asKhloneError(thrown), order.utf8);
  } finally {
    for (const name of ENDING) process.off(name, onEnding);
    line.close();
  }
};
