import { KhloneError } from '../../protocol/error.ts';
import { terminalSize } from '../terminal/here.ts';
import type { SpawnPty } from '../terminal/pty.ts';
import { endOf } from './ended.ts';
import type { HubLine } from './hub-line.ts';
import type { AttachOrder } from './order.ts';
import type { Way } from './visit.ts';

/**
 * A viewer on this very machine: tmux's client runs here, so neither the hub nor the server is in the way of a key,
 * and the picture goes on when they are killed or replaced.
 */

const PREPARE_WITHIN_MS = 20_000;

type Program = { argv: string[]; env: Record<string, string> };

const programOf = (value: unknown, term: string): Program => {
  const { argv, env } = (value ?? {}) as { argv?: unknown; env?: unknown };
  const words = Array.isArray(argv) ? argv.filter((word) => typeof word === 'string') : [];
  if (words.length === 0)
    throw new KhloneError('invalid-request', 'the server named no program', 'khlone doctor');
  // Nothing of the person's environment but the terminal's name, and TMUX least of all: a tmux inside a tmux is meant.
  return { argv: words, env: { TERM: term, ...(env as Record<string, string> | undefined) } };
};

/** Makes the viewer ready and answers the program that shows it. */
const prepare = async (
  line: HubLine,
  order: AttachOrder,
  viewer: string,
  term: string,
  signal: AbortSignal,
): Promise<Program> => {
  const { zone, sight, utf8 } = order;
  const params = { zone, viewer, sight, terminal: { ...terminalSize(), term, utf8 } };
  const { value } = await line.call('attach.prepare', params, { signal, timeoutMs: PREPARE_WITHIN_MS });
  return programOf(value, term);
};

/** With a terminal of ours around the program, so that the keys that leave are seen here. */
export const nearWay = (
  line: HubLine,
  order: AttachOrder,
  viewer: string,
  term: string,
  spawn: SpawnPty,
): Way => ({
  open: async (size, signal) => {
    const pty = spawn({ ...(await prepare(line, order, viewer, term, signal)), size });
    return { output: pty.output, type: pty.write, resize: pty.resize, close: pty.hangUp };
  },
  end: endOf(line, viewer),
});
