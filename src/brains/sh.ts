import type { BrainEvent } from '../protocol/event.ts';
import { type Brain, displayLine, jsonLine, parseObject, type Reader } from './brain.ts';
import type { ShLine } from './sh-program.ts';

/**
 * The built-in brain: the prompt is a shell script. It needs no account, so a first run, plain remote commands and the
 * tests take the same path as an AI. The program behind it is ours (sh-program.ts), run by this very build.
 */

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

const endOf = (line: Extract<ShLine, { type: 'end' }>): BrainEvent[] => {
  const answer = text(line.text);
  const toolEnd = (ok: boolean, output: string): BrainEvent[] =>
    line.ran === true ? [{ type: 'tool.end', id: text(line.uuid), ok, output, denied: false }] : [];
  if (line.outcome === 'done') {
    return [...toolEnd(true, 'exit code 0'), { type: 'turn.end', reason: 'done', text: answer }];
  }
  if (line.outcome === 'interrupted') {
    return [...toolEnd(false, 'interrupted'), { type: 'turn.end', reason: 'interrupted', text: answer }];
  }
  const message = text(line.message) || 'the script failed';
  return [
    ...toolEnd(false, message),
    { type: 'turn.end', reason: 'error', text: answer, fault: { kind: 'other', message } },
  ];
};

const eventsOf = (line: ShLine): BrainEvent[] => {
  switch (line.type) {
    case 'start':
      return [{ type: 'tool.start', id: text(line.uuid), name: 'sh', input: displayLine(text(line.script)) }];
    case 'stdout':
      return [{ type: 'text', text: text(line.text), final: false }];
    case 'stderr':
      return [{ type: 'warn', text: text(line.text) }];
    case 'end':
      return endOf(line);
    default:
      return [{ type: 'raw', kind: 'sh' }];
  }
};

const createReader =
  (turnUuid?: string): Reader =>
  (line) => {
    if (line.trim() === '') return [];
    const parsed = parseObject(line);
    if (!parsed) return [{ type: 'raw', kind: 'text' }];
    return turnUuid !== undefined && parsed.uuid !== turnUuid ? [] : eventsOf(parsed as ShLine);
  };

/** The brain `sh`. `entry`: what follows the Node binary to reach runShProgram; the word `brain-sh` is appended. */
export const createSh = ({ entry }: { entry: readonly string[] }): Brain => ({
  name: 'sh',
  title: 'shell script',
  // There is no session, so every process is a fork of nothing. A shell ask is never repeated: nobody can tell what it does.
  capabilities: { fork: true, steer: false, imposesSession: true, longLived: true, replaysAsk: false },
  probe: async () => ({ ready: true, found: true, version: process.versions.node, auth: 'ok' }),
  statePaths: () => [],
  actPaths: () => [],
  start: (spec) => ({ argv: [process.execPath, ...entry, 'brain-sh'], env: { TMPDIR: spec.tmpDir } }),
  say: (turn) => jsonLine({ type: 'turn', uuid: turn.uuid, text: turn.text, mode: turn.mode }),
  interrupt: () => ({ bytes: jsonLine({ type: 'interrupt' }) }),
  reader: createReader,
});
