import { once } from 'node:events';
import type { Socket } from 'node:net';
import { KhloneError } from '../../protocol/error.ts';
import type { Caller } from '../caller.ts';

/**
 * The shell's own form on the hub's socket: NUL-separated fields that builtins can write, answered by lines that
 * builtins can read. It carries only chosen variables, so a command that needs more than it has (a terminal, standard
 * input, the whole environment) is handed over to the node command under the same nonce, before it did anything.
 *
 *     khlone/1 NUL nonce NUL cwd NUL columns NUL variables NUL (NAME=value NUL)… words NUL (word NUL)…
 *     o TEXT   a line for stdout      e TEXT   a line for stderr
 *     n        run the node command   x CODE   the end
 */

export const RAW_MAGIC = 'khlone/1';
/** The whole request; longer prompts go by the node command. */
const REQUEST_MAX_BYTES = 1024 * 1024;
const REQUEST_DEADLINE_MS = 5_000;
const MAX_FIELDS = 5_000;

export type RawRequest = {
  nonce: string;
  cwd: string;
  columns: number;
  env: Record<string, string>;
  argv: string[];
};

/** The request in these bytes; undefined while it is not complete. Throws `invalid-request` on nonsense. */
export const parseRaw = (bytes: Buffer): RawRequest | undefined => {
  if (bytes.at(-1) !== 0) return undefined;
  const fields = bytes.toString('utf8').slice(0, -1).split('\0');
  if (fields.length > MAX_FIELDS || fields[0] !== RAW_MAGIC) throw nonsense();
  if (fields.length < 5) return undefined;
  const [, nonce = '', cwd = '', columns = '', variables = ''] = fields;
  const nEnv = count(variables);
  const words = fields[5 + nEnv];
  if (words === undefined) return undefined;
  const argv = fields.slice(6 + nEnv);
  const nWords = count(words);
  if (argv.length < nWords) return undefined;
  if (argv.length > nWords || !/^[A-Za-z0-9._-]{8,80}$/.test(nonce)) throw nonsense();
  const env = Object.fromEntries(
    fields.slice(5, 5 + nEnv).map((field) => {
      const at = field.indexOf('=');
      return [field.slice(0, at), field.slice(at + 1)];
    }),
  );
  return { nonce, cwd, columns: Math.max(1, count(columns) || 80), env, argv };
};

const nonsense = (): KhloneError =>
  new KhloneError('invalid-request', 'the shell sent nonsense', 'khlone doctor');

const count = (text: string): number => {
  if (!/^\d{1,5}$/.test(text)) throw nonsense();
  return Number(text);
};

const readRequest = (socket: Socket): Promise<RawRequest> =>
  new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const timer = setTimeout(() => reject(nonsense()), REQUEST_DEADLINE_MS);
    const settle = (then: () => void): void => {
      clearTimeout(timer);
      socket.off('data', take);
      then();
    };
    const take = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      try {
        const request = bytes.length > REQUEST_MAX_BYTES ? undefined : parseRaw(bytes);
        if (request) settle(() => resolve(request));
        else if (bytes.length > REQUEST_MAX_BYTES) settle(() => reject(nonsense()));
      } catch (error) {
        settle(() => reject(error as Error));
      }
    };
    socket.on('data', take);
  });

/** Text as lines of one kind; what has no line break at its end is held back until it has, or until the end. */
const createLines = (socket: Socket, kind: 'o' | 'e') => {
  let rest = '';
  const send = (line: string): void => {
    // What one turn of the event loop says is one write: a receipt wakes its shell once, with its end in it.
    if (socket.writableCorked === 0) {
      socket.cork();
      setImmediate(() => socket.uncork());
    }
    socket.write(`${kind} ${line}\n`);
  };
  return {
    push: (text: string): void => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) send(line);
    },
    end: (): void => {
      if (rest !== '') send(rest);
    },
  };
};

/** Serves one command of a shell. */
export const serveRaw = async (socket: Socket, run: (caller: Caller) => Promise<number>): Promise<void> => {
  const left = new AbortController();
  socket.on('close', () => left.abort());
  const request = await readRequest(socket);
  const out = createLines(socket, 'o');
  const err = createLines(socket, 'e');
  let handedOver = false;
  const handOver = (): never => {
    if (!handedOver) socket.end('n\n');
    handedOver = true;
    throw new KhloneError('interrupted', 'handed over to the node command');
  };
  const code = await run({
    ...request,
    repeated: false,
    marks: {},
    terminal: { stdin: true, stdout: false, stderr: false, columns: request.columns, rows: 24 },
    out: (text) => {
      if (!handedOver) out.push(text);
    },
    err: (text) => {
      if (!handedOver) err.push(text);
    },
    drained: () =>
      socket.writableNeedDrain
        ? once(socket, 'drain', { signal: left.signal }).then(() => {})
        : Promise.resolve(),
    printed: async () => !socket.destroyed,
    onResize: () => () => {},
    readStdin: async () => handOver(),
    ask: async () => handOver(),
    run: async () => handOver(),
    attach: handOver,
    hushKeys: handOver,
    // Who hangs up hears nothing more.
    lastWords: () => {},
    handOver,
    signal: left.signal,
  });
  if (handedOver) return;
  out.end();
  err.end();
  socket.end(`x ${code}\n`);
};
