import { statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Document } from 'yaml';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';
import { parseDurationMs } from './measure.ts';
import { nearest } from './nearest.ts';
import { withFileLock, writePrivate } from './private-file.ts';

/** Personal defaults in ~/.khlone/config.yml: six flat keys, each a word. */

export type UserConfig = {
  orchestrator?: 'local' | 'cloud';
  'default-instance'?: string;
  /** As written, e.g. `4h`: parseDurationMs reads it. */
  'default-ttl'?: string;
  'default-brain'?: string;
  'auto-sync'?: boolean;
  verbosity?: 'quiet' | 'normal' | 'verbose' | 'raw';
};
export type UserKey = keyof UserConfig;

type Rule = { expected: string; accepts: (text: string) => boolean };
const oneOf = (...values: string[]): Rule => ({
  expected: values.join(', '),
  accepts: (text) => values.includes(text),
});

const RULES: Readonly<Record<UserKey, Rule>> = {
  orchestrator: oneOf('local', 'cloud'),
  'default-instance': {
    expected: 'an instance type, such as m6i.xlarge',
    accepts: (text) => /^[a-z0-9][a-z0-9-]{0,40}\.[a-z0-9-]{1,40}$/u.test(text),
  },
  'default-ttl': {
    expected: 'a duration with its unit, such as 4h',
    accepts: (text) => parseDurationMs(text) !== undefined,
  },
  'default-brain': {
    expected: 'a brain, such as claude or claude:haiku',
    accepts: (text) => /^[a-z][a-z0-9-]{0,39}(:[\w./:@-]{1,100})?$/u.test(text),
  },
  'auto-sync': oneOf('true', 'false'),
  verbosity: oneOf('quiet', 'normal', 'verbose', 'raw'),
};

/** All keys, in the order in which they are listed. */
export const USER_KEYS = Object.keys(RULES) as UserKey[];

const MAX_FILE_BYTES = 64 * 1024;
const fileOf = (home: string): string => join(home, 'config.yml');

/** The key that a person named. Throws `usage` with the nearest known one. */
const keyOf = (name: string): UserKey => {
  const key = USER_KEYS.find((known) => known === name);
  if (key) return key;
  const guess = nearest(name, USER_KEYS);
  const hint = guess ? `did you mean ${guess}?` : `known: ${USER_KEYS.join(', ')}`;
  throw new KhloneError('usage', `no setting is called ${JSON.stringify(oneLine(name, 60))}`, hint);
};

const typed = (key: UserKey, text: string): string | boolean =>
  key === 'auto-sync' ? text === 'true' : text;

const wrong = (code: 'usage' | 'config', key: UserKey, text: string): KhloneError =>
  new KhloneError(
    code,
    `${key}: ${JSON.stringify(oneLine(text, 60))} is not ${RULES[key].expected}`,
    'khlone config list',
  );

const openDocument = async (path: string): Promise<Document> => {
  const { parseDocument, isMap, isScalar } = await import('./yaml-document.ts');
  const facts = await stat(path).catch(() => undefined);
  if (facts && (!facts.isFile() || facts.size > MAX_FILE_BYTES)) {
    throw new KhloneError('config', `${oneLine(path, 200)} is no small file`);
  }
  const text = facts ? await readFile(path, 'utf8') : '';
  const document: Document = parseDocument(text, { version: '1.2', schema: 'core' });
  const [mistake] = [...document.errors, ...document.warnings];
  if (mistake)
    throw new KhloneError(
      'config',
      `config.yml:${mistake.linePos?.[0].line ?? 1} ${oneLine(mistake.message.split('\n')[0] ?? '', 150)}`,
    );
  if (document.contents === null) return document;
  const isFlat =
    isMap(document.contents) &&
    document.contents.items.every(({ key, value }) => isScalar(key) && (value === null || isScalar(value)));
  if (!isFlat)
    throw new KhloneError('config', 'config.yml: expected lines of "key: value"', 'khlone config list');
  return document;
};

const configOf = (document: Document): UserConfig => {
  const plain = (document.toJS() ?? {}) as Record<string, unknown>;
  const entries = Object.entries(plain).filter(([, value]) => value !== null);
  return Object.fromEntries(
    entries.map(([name, value]) => {
      const key = USER_KEYS.find((known) => known === name);
      if (!key) {
        const guess = nearest(name, USER_KEYS);
        throw new KhloneError(
          'config',
          `config.yml: unknown key ${oneLine(name, 60)}`,
          guess ? `did you mean ${guess}?` : `known: ${USER_KEYS.join(', ')}`,
        );
      }
      if (!RULES[key].accepts(String(value))) throw wrong('config', key, String(value));
      return [key, typed(key, String(value))];
    }),
  );
};

const remembered = new Map<string, { state: string; config: UserConfig }>();
const MAX_REMEMBERED = 16;

/** The personal defaults under a KHLONE_HOME; empty without a file. An unchanged file is not read again. Throws `config`. */
export const readUserConfig = async (home: string): Promise<UserConfig> => {
  const path = fileOf(home);
  // Every dispatch looks here: a look without the thread pool is ten times as quick.
  const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (!facts) return {};
  const state = `${facts.mtimeNs} ${facts.ctimeNs} ${facts.size} ${facts.ino}`;
  const known = remembered.get(path);
  if (known?.state === state) return known.config;
  const config = Object.freeze(configOf(await openDocument(path)));
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  // A file changed just now may change again within the same time stamp.
  if (Date.now() - Number(facts.ctimeNs / 1_000_000n) > 50) remembered.set(path, { state, config });
  return config;
};

const edit = (home: string, change: (document: Document) => void): Promise<void> =>
  withFileLock(fileOf(home), async () => {
    const document = await openDocument(fileOf(home));
    change(document);
    await writePrivate(fileOf(home), document.contents === null ? '' : document.toString());
  });

/** One setting, or undefined where it is not set. Throws `usage` for an unknown key. */
export const getUserSetting = async (home: string, name: string): Promise<string | boolean | undefined> => {
  const key = keyOf(name);
  return (await readUserConfig(home))[key];
};

/** Sets one key to a word as typed; comments and other keys of the file stay. Throws `usage` for a wrong key or value. */
export const setUserSetting = async (home: string, name: string, text: string): Promise<void> => {
  const key = keyOf(name);
  if (!RULES[key].accepts(text)) throw wrong('usage', key, text);
  await edit(home, (document) => document.set(key, typed(key, text)));
};

/** Removes one key; removing what is not there is no mistake. Throws `usage` for an unknown key. */
export const unsetUserSetting = async (home: string, name: string): Promise<void> => {
  const key = keyOf(name);
  await edit(home, (document) => {
    if (document.contents !== null) document.delete(key);
  });
};

/** Every key with its value, undefined where it is not set. */
export const listUserSettings = async (
  home: string,
): Promise<{ key: UserKey; value: string | boolean | undefined }[]> => {
  const config = await readUserConfig(home);
  return USER_KEYS.map((key) => ({ key, value: config[key] }));
};

/** Where a value may come from, the strongest first. */
export type Sources<Value> = {
  flag?: Value | undefined;
  environment?: Value | undefined;
  site?: Value | undefined;
  user?: Value | undefined;
  builtIn: Value;
};

/** The value that holds, and where it comes from: flag > environment > khlone.yml > config.yml > built-in. */
export const strongest = <Value>(sources: Sources<Value>): { value: Value; from: keyof Sources<Value> } => {
  for (const from of ['flag', 'environment', 'site', 'user'] as const) {
    const value = sources[from];
    if (value !== undefined) return { value, from };
  }
  return { value: sources.builtIn, from: 'builtIn' };
};
