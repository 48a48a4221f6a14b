import { PassThrough } from 'node:stream';
import { type BaseContext, Cli, type CommandClass, type Definition, UsageError } from 'clipanion';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import { beforeDashes, type Caller } from './caller.ts';
import { COMMANDS } from './commands/all.ts';
import { commandPage, contentsPage } from './help.ts';
import { fewWords } from './many-words.ts';
import { tellError } from './render/tell-error.ts';
import { wrongUse } from './wrong-use.ts';

/** One command of a caller, run in the hub: parse, execute, and tell errors in one language. */

export type Context = BaseContext & {
  app: App;
  caller: Caller;
  /** The page of the command that these words name, or the contents of the manual. */
  help(words: readonly string[]): string;
};

const NAMES = { binaryName: 'khlone', binaryLabel: 'khlone', enableColors: false };

/** The whole manual. */
export const createCli = (version: string): Cli<Context> => {
  const cli = new Cli<Context>({ ...NAMES, binaryVersion: version });
  for (const command of COMMANDS) cli.register(command);
  return cli;
};

/** A parser compiles all that it knows anew at each command, although it never changes once it is made. */
const compiledOnce = (cli: Cli<Context>): Cli<Context> => {
  const { builder } = cli as unknown as { builder: { compile(): unknown } };
  const compiled = builder.compile();
  builder.compile = () => compiled;
  return cli;
};

/** Each first word gets a small parser that knows only its commands: it tries fewer ways. */
const parsers = new Map<string, Cli<Context>>();

const parserFor = (version: string, word: string): Cli<Context> => {
  const key = `${version} ${word}`;
  const known = parsers.get(key);
  if (known) return known;
  const own = COMMANDS.filter((command) => command.paths?.some(([first]) => first === word));
  const made = own.length === 0 ? createCli(version) : new Cli<Context>({ ...NAMES, binaryVersion: version });
  for (const command of own) made.register(command);
  // Words that lead nowhere are many; the commands are few.
  if (own.length > 0) parsers.set(key, compiledOnce(made));
  return made;
};

const pathsOf = (commands: readonly CommandClass<Context>[]): string[][] =>
  commands.flatMap((command) => command.paths ?? []).filter((path) => path.length > 0);

/** The definition of one command, as its help and its errors need it. */
const definitionOf = (command: CommandClass<Context>): Definition | undefined => {
  const cli = new Cli<Context>(NAMES);
  cli.register(command);
  return cli.definitions()[0];
};

const commandOf = (words: readonly string[]): CommandClass<Context> | undefined => {
  const fits = (path: readonly string[]): boolean =>
    path.length > 0 && path.every((word, i) => words[i] === word);
  const length = (command: CommandClass<Context>): number =>
    Math.max(0, ...(command.paths ?? []).filter(fits).map((path) => path.length));
  const [best] = [...COMMANDS].sort((a, b) => length(b) - length(a));
  return best && length(best) > 0 ? best : undefined;
};

const columnsOf = ({ terminal }: Caller): number => (terminal.stdout ? Math.min(terminal.columns, 100) : 80);

/** The help of the command that these words name. Throws `usage` where there is none. */
const pageOf = (words: readonly string[], caller: Caller): string => {
  const command = commandOf(words);
  const definition = command && definitionOf(command);
  if (!definition) throw wrongUse('', words, pathsOf(COMMANDS), { all: [], required: [], valued: [] });
  return commandPage(definition, command?.paths ?? [], columnsOf(caller));
};

/** All commands with a line each, or one of them. */
const helpFor =
  (app: App, caller: Caller) =>
  (words: readonly string[]): string =>
    words.length > 0
      ? pageOf(words, caller)
      : contentsPage(createCli(app.version), app.version, columnsOf(caller));

type Options = Definition['options'];

const names = (some: Options): string[] =>
  some.flatMap((option) => (option.definition.split(' ')[0] ?? '').split(','));

const valuedIn = (some: Options): string[] =>
  names(some.filter(({ definition }) => definition.includes('#')));

const usageOf = (error: Error, argv: readonly string[]): KhloneError => {
  const command = commandOf(argv.filter((word) => !word.startsWith('-')));
  const found = (command && definitionOf(command)?.options) ?? [];
  return wrongUse(error.message, argv, pathsOf(COMMANDS), {
    all: names(found),
    required: names(found.filter((option) => option.required)),
    valued: valuedIn(found),
  });
};

/** An empty value, as of an unset variable, is none: nothing that takes one could mean it. */
const refuseEmpty = (argv: readonly string[]): void => {
  const words = beforeDashes(argv);
  if (!words.some((word) => word === '' || /^--[^=]+=$/.test(word))) return;
  const at = commandOf(words.filter((word) => !word.startsWith('-')));
  const valued = valuedIn((at && definitionOf(at)?.options) ?? []);
  const empty = words.find(
    (word, i) => (valued.includes(word) && words[i + 1] === '') || valued.some((name) => word === `${name}=`),
  );
  if (empty === undefined) return;
  const hint = `khlone ${(at?.paths?.[0] ?? []).join(' ')} --help`;
  throw new KhloneError('usage', `${empty.replace(/=$/, '')} needs a value`, hint);
};

/** `--help` before `--` asks for help wherever it stands. */
const wantsHelp = (argv: readonly string[]): boolean => {
  const words = beforeDashes(argv);
  return words.includes('--help') || words.includes('-h');
};

const tellHelp = (app: App, caller: Caller): number => {
  const words = caller.argv.filter((word) => !word.startsWith('-'));
  caller.out(helpFor(app, caller)(words));
  return 0;
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
    if (wantsHelp(caller.argv)) return tellHelp(app, caller);
    refuseEmpty(caller.argv);
    const cli = parserFor(app.version, caller.argv[0] ?? '');
    const context: Context = {
      env: caller.env,
      stdin: new PassThrough().end(),
      stdout: sink(caller.out),
      stderr: sink(caller.err),
      colorDepth: 1,
      app,
      caller,
      help: helpFor(app, caller),
    };
    const { argv, restore } = fewWords(caller.argv);
    const command = cli.process(argv, context);
    restore(command);
    command.context = context;
    command.cli = { ...cli, error: cli.error.bind(cli), usage: cli.usage.bind(cli) } as never;
    return (await command.validateAndExecute()) ?? 0;
  } catch (thrown) {
    const error = asError(thrown, caller.argv);
    tellError(caller, error);
    return error.exit;
  }
};
