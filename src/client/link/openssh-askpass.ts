import { rmSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { SOCKET_PATH_BYTES } from '../../protocol/limits.ts';
import { ensurePrivateDir, makeDir } from '../../protocol/private-dir.ts';
import { sanitize } from '../../protocol/sanitize.ts';
import type { Asker } from './ssh-target.ts';

/**
 * How ssh asks a person: it runs a small program of ours with its question, which brings it here by a private socket,
 * and prints the answer into ssh's own pipe. An answer is in no file, no argv, no environment and no log.
 */

export type AskpassDesk = {
  /** For the environment of ssh. */
  readonly env: Record<string, string>;
  /** A new ssh begins: what it asks a second time was answered wrongly. */
  nextChild(): void;
  close(): void;
};

export type AskpassDeps = {
  readonly asker: NonNullable<Asker>;
  /** Runs a wait for a person while the deadline stands still. */
  hold<T>(work: () => Promise<T>): Promise<T>;
  /** ssh waits for a touch on a key. */
  notice(line: string): void;
  /**
   * Whether a question says which host asks it: ssh puts that before a host's own words since 8.5. An older one lets a
   * jump host ask in the words of the next host's password, and must not get that from memory.
   */
  readonly namesHosts: boolean;
  /** The person is gone. */
  onFault(thrown: unknown): void;
};

const QUESTION_MAX_CHARS = 4_096;
const QUESTION_MAX_LINES = 12;
/** A host may ask again and again; nobody answers this often. */
const QUESTIONS_MAX = 40;
/** How many characters a program may send before its first line must have ended: JSON doubles some. */
const LINE_MAX_CHARS = 6 * QUESTION_MAX_CHARS + 100;

/** Kinds as SSH_ASKPASS_PROMPT names them: `none` is a notice that stays until ssh ends the program. */
type Asked = { readonly text: string; readonly kind: 'none' | 'confirm' | '' };

/** Runs by `node -e`, and reads its question from argv, where ssh puts it. */
const PROGRAM = `
const [, path, text = ''] = process.argv;
const socket = require('node:net').connect(path);
let came = '';
const kind = process.env.SSH_ASKPASS_PROMPT || '';
socket.on('connect', () => socket.write(JSON.stringify({ text: text.slice(0, ${QUESTION_MAX_CHARS}), kind }) + '\\n'));
socket.on('data', (chunk) => { came += chunk; });
socket.on('error', () => process.exit(1));
socket.on('end', () => {
  const answer = came === '' ? null : JSON.parse(came);
  if (typeof answer !== 'string') process.exit(1);
  process.stdout.write(answer + '\\n', () => process.exit(0));
});
`;

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const script = (socketPath: string): string =>
  `#!/bin/sh
unset NODE_OPTIONS NODE_EXTRA_CA_CERTS
exec ${quoted(process.execPath)} -e ${quoted(PROGRAM)} -- ${quoted(socketPath)} "$1"
`;

/** ssh's own question about a host key, and agents' about a use of a key: the answer may be seen. */
const isYesNo = (text: string): boolean => /\(yes\/no[^)]*\)\?? ?$|^Please type 'yes', 'no'/.test(text);

/**
 * Questions whose answer holds for the next ssh of the same link: each command of a first set-up is an ssh of its own,
 * and a person answers once. A second factor is asked for each time.
 */
const holdsForNext = (text: string): boolean =>
  isYesNo(text) || /password:? *$/i.test(text) || /^Enter passphrase for /.test(text);

const readable = (text: string): string => {
  const lines = sanitize(text).trimEnd().split('\n');
  return `${lines.slice(-QUESTION_MAX_LINES).join('\n')} `;
};

const parseAsked = (line: string): Asked | undefined => {
  try {
    const { text, kind } = JSON.parse(line) as { text?: unknown; kind?: unknown };
    if (typeof text !== 'string') return undefined;
    return {
      text: text.slice(0, QUESTION_MAX_CHARS),
      kind: kind === 'none' || kind === 'confirm' ? kind : '',
    };
  } catch {
    return undefined;
  }
};

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => (socket.destroyed ? resolve() : socket.once('close', () => resolve())));

type Desk = { deps: AskpassDeps; answers: Map<string, string>; asked: Set<string>; questions: number };

const answerTo = async (desk: Desk, { text, kind }: Asked): Promise<string | undefined> => {
  const known = desk.asked.has(text) ? undefined : desk.answers.get(text);
  desk.asked.add(text);
  if (known !== undefined) return known;
  desk.questions += 1;
  if (desk.questions > QUESTIONS_MAX) return undefined;
  const { asker, hold, namesHosts } = desk.deps;
  const yesNo = kind === 'confirm' || isYesNo(text);
  const question = kind === 'confirm' ? `${readable(text)}(yes/no) ` : readable(text);
  const answer = await hold(() => asker.ask({ text: question, secret: !yesNo }));
  if (kind === 'confirm') return /^y(es)?$/i.test(answer.trim()) ? 'yes' : undefined;
  if (namesHosts && holdsForNext(text)) desk.answers.set(text, answer);
  return answer;
};

const serve = async (desk: Desk, socket: Socket, line: string): Promise<void> => {
  const asked = parseAsked(line);
  if (asked?.kind === 'none') {
    desk.deps.notice(readable(asked.text).trim());
    await desk.deps.hold(() => closed(socket));
    return;
  }
  const answer = asked && (await answerTo(desk, asked));
  // An answer with a line break would be cut there by ssh: what follows must not become another one.
  socket.end(JSON.stringify(answer === undefined ? null : answer.split(/[\r\n]/)[0]));
};

const attend = (desk: Desk, socket: Socket): void => {
  let came = '';
  socket.on('error', () => socket.destroy());
  socket.setEncoding('utf8').on('data', (text: string) => {
    if (came.includes('\n')) return;
    came += text;
    if (came.length > LINE_MAX_CHARS) socket.destroy();
    else if (came.includes('\n'))
      serve(desk, socket, came.slice(0, came.indexOf('\n'))).catch((thrown) => {
        socket.end('null');
        desk.deps.onFault(thrown);
      });
  });
};

/** A desk whose hub was killed stays behind; it holds no secret, and goes after a day. */
const LEFT_AFTER_MS = 24 * 3600_000;

const removeLeft = async (run: string): Promise<void> => {
  const names = (await readdir(run)).filter((name) => name.startsWith('ask-'));
  for (const folder of names.map((name) => join(run, name))) {
    const facts = await stat(folder).catch(() => undefined);
    if (facts && Date.now() - facts.mtimeMs > LEFT_AFTER_MS)
      await rm(folder, { recursive: true, force: true });
  }
};

/** A folder that nobody else can enter, whose path leaves room for a socket's name. */
const privateFolder = async (home: string): Promise<string> => {
  makeDir(home);
  const run = join(home, 'run');
  ensurePrivateDir(run);
  await removeLeft(run);
  const isShort = Buffer.byteLength(join(run, 'ask-123456', 'socket')) <= SOCKET_PATH_BYTES;
  return mkdtemp(join(isShort ? run : '/tmp', 'ask-'));
};

const listening = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });

/** Opens the desk for one link, in a private folder of `home`. `close` leaves nothing of it. */
export const openAskpass = async (home: string, deps: AskpassDeps): Promise<AskpassDesk> => {
  const folder = await privateFolder(home);
  const [program, socketPath] = [join(folder, 'askpass'), join(folder, 'socket')];
  const desk: Desk = { deps, answers: new Map(), asked: new Set(), questions: 0 };
  const server = createServer((socket) => attend(desk, socket));
  await listening(server, socketPath);
  await writeFile(program, script(socketPath), { mode: 0o700, flag: 'wx' });
  return {
    env: { SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force' },
    nextChild: () => desk.asked.clear(),
    close: () => {
      desk.answers.clear();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
