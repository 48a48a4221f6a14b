import { PassThrough } from 'node:stream';
import { type BaseContext, Cli, UsageError } from 'clipanion';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Caller } from './caller.ts';
import { COMMANDS } from './commands/all.ts';
import { oneLine } from './terminal/sanitize.ts';

/** One command of a caller, run in the hub: parse, execute, and tell errors in one language. */

export type Context = BaseContext & { app: App; caller: Caller };

const NAMES = { binaryName: 'khlone', binaryLabel: 'khlone', enableColors: false };

/** The whole manual. */
export const createCli = (version: string): Cli<Context> => {
  const cli = new Cli<Context>({ ...NAMES, binaryVersion: version });
  for (const command of COMMANDS) cli.register(command);
  return cli;
};

/** A parser compiles all it knows at each command, so each first word gets a small one that knows only its commands. */
const parsers = new Map<string, Cli<Context>>();

const parserFor = (version: string, word: string): Cli<Context> => {
  const key = `${version} ${word}`;
  const known = parsers.get(key);
  if (known) return known;
  const own = COMMANDS.filter((command) => command.paths?.some(([first]) => first === word));
  const made = own.length === 0 ? createCli(version) : new Cli<Context>({ ...NAMES, binaryVersion: version });
  for (const command of own) made.register(command);
  // Words that lead nowhere are many; the commands are few.
  if (own.length > 0) parsers.set(key, made);
  return made;
};

const LINE_CHARS = 2_000;

/** One line that says what, one that says what to do; with --json one object on stdout. */
export const tellError = (caller: Caller, error: KhloneError): void => {
  if (caller.argv.includes('--json')) {
    caller.out(`${JSON.stringify({ code: error.code, message: error.message, hint: error.hint })}\n`);
    return;
  }
  const lines = error.message.split('\n').map((line) => oneLine(line, LINE_CHARS));
  const hint = error.hint ? `  ↳ ${oneLine(error.hint, LINE_CHARS)}\n` : '';
  caller.err(`✗ ${lines.join('\n  ')}\n${hint}`);
};

/** clipanion's own words for wrong use, as an error of ours with the usage line as the next step. */
const usageOf = (error: Error, argv: readonly string[]): KhloneError => {
  const first = error.message.split('\n').find((line) => line.trim() !== '') ?? 'wrong use';
  const name = argv.find((word) => !word.startsWith('-')) ?? '';
  const text = /Command not found|extraneous|Unsupported option|syntax/i.test(error.message)
    ? first.replace(/; did you mean.*/i, '').replace(/^.*Error:\s*/, '')
    : first;
  return new KhloneError('usage', text, name ? `khlone ${name} --help` : 'khlone --help');
};

const asError = (thrown: unknown, argv: readonly string[]): KhloneError => {
  if (thrown instanceof KhloneError) return thrown;
  if (thrown instanceof UsageError) return usageOf(thrown, argv);
  if (thrown instanceof Error && 'clipanion' in thrown) return usageOf(thrown, argv);
  return asKhloneError(thrown);
};

const sink = (write: (text: string) => void): PassThrough => {
  const stream = new PassThrough();
  stream.setEncoding('utf8').on('data', write);
  return stream;
};

/** Runs the caller's words and answers the exit code. Never throws. */
export const runCommand = async (app: App, caller: Caller): Promise<number> => {
  try {
    const cli = parserFor(app.version, caller.argv[0] ?? '');
    const context: Context = {
      env: caller.env,
      stdin: new PassThrough().end(),
      stdout: sink(caller.out),
      stderr: sink(caller.err),
      colorDepth: 1,
      app,
      caller,
    };
    const command = cli.process(caller.argv, context);
    command.context = context;
    command.cli = { ...cli, error: cli.error.bind(cli), usage: cli.usage.bind(cli) } as never;
    if (command.help) {
      caller.out(cli.usage(command, { detailed: true }));
      return 0;
    }
    return (await command.validateAndExecute()) ?? 0;
  } catch (thrown) {
    const error = asError(thrown, caller.argv);
    tellError(caller, error);
    return error.exit;
  }
};
