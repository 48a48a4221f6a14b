import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { bundle, connectHub } from '../hub-connection.ts';
import { type HereTerminal, takeTerminal } from '../terminal/here.ts';
import { loadPty } from '../terminal/pty.ts';
import { ptyInstall } from '../terminal/pty-install.ts';
import { farWay } from './far-way.ts';
import { createHubLine, type HubLine } from './hub-line.ts';
import { look } from './look.ts';
import { nearWay } from './near-way.ts';
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

/** A local zone has two ways to a terminal: where neither is there, both are named. */
const withBothWays = (thrown: unknown): KhloneError => {
  const error = asKhloneError(thrown);
  if (error.code !== 'no-pty') return error;
  const hint = [error.hint, ptyInstall(dirname(bundle('.')))].filter(Boolean).join('; or: ');
  return new KhloneError(error.code, error.message, hint, error.data);
};

const attach = async (given: Attach): Promise<Outcome> => {
  const { order, line, viewer, term } = given;
  const spawnPty = order.host === 'local' ? await loadPty() : undefined;
  if (spawnPty) return lookOver(given, nearWay(line, order, viewer, term, spawnPty));
  return lookOver(given, farWay(line, order, viewer, term)).catch((thrown: unknown) => {
    throw order.host === 'local' ? withBothWays(thrown) : thrown;
  });
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
