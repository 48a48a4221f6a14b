import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from 'yaml';
import type * as z from 'zod';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';
import { nearest } from './nearest.ts';
import { frozen, type SiteConfig } from './site-config.ts';
import { fillDefaults, misplaced } from './site-config-fill.ts';
import { SiteFile } from './site-config-schema.ts';

/** A mistake and its place: an offset in the text, in UTF-16 units. */
type Mistake = { at: number; says: string };
type Path = readonly PropertyKey[];
/** A place in the document: the value and, inside a map, its key. */
type Place = { key?: Node | undefined; value?: Node | undefined };

const MAX_SHOWN = 5;
/** Aliases that one file may use, and how often they may be expanded: more is an attempt to blow up memory. */
const MAX_ALIASES = 32;

const SYNTAX: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key stands here twice',
  MULTIPLE_DOCS: 'a second document begins here; only one is read',
  RESOURCE_EXHAUSTION: 'nested too deeply',
  TAG_RESOLVE_FAILED: 'tags (!) have no meaning here',
};

const startOf = (node: Node | undefined): number | undefined => node?.range?.[0];

/** What the yaml library and our own limits object to, before any meaning is looked at. */
const syntaxMistakes = (document: Document): Mistake[] => {
  const found = [...document.errors, ...document.warnings].map(({ code, message, pos }) => ({
    at: pos[0],
    says: SYNTAX[code] ?? oneLine(message, 150),
  }));
  if (found.length > 0) return found;
  let aliases = 0;
  visit(document, {
    Node: (_key, node) => {
      if (!isAlias(node) && node.tag !== undefined) {
        found.push({ at: startOf(node) ?? 0, says: 'tags (!) have no meaning here' });
      }
    },
    Alias: (_key, node) => {
      aliases += 1;
      if (aliases === MAX_ALIASES + 1)
        found.push({ at: startOf(node) ?? 0, says: `more than ${MAX_ALIASES} aliases (*)` });
    },
    Pair: (_key, { key }) => {
      const word = isScalar(key) ? String(key.value) : undefined;
      if (word === undefined)
        found.push({ at: startOf(isNode(key) ? key : undefined) ?? 0, says: 'a key must be one word' });
      if (word === '__proto__')
        found.push({ at: startOf(isNode(key) ? key : undefined) ?? 0, says: '__proto__ is not a key here' });
    },
  });
  return found;
};

const resolved = (document: Document, node: unknown): Node | undefined => {
  const target = isAlias(node) ? node.resolve(document) : node;
  return isNode(target) ? target : undefined;
};

const entryOf = (map: { items: Pair[] }, name: PropertyKey): Pair | undefined =>
  map.items.find((pair) => isPair(pair) && isScalar(pair.key) && String(pair.key.value) === String(name));

/** Where a path of keys and indices leads; as far as the document goes. */
const placeOf = (document: Document, path: Path): Place => {
  let place: Place = { value: isNode(document.contents) ? document.contents : undefined };
  for (const step of path) {
    const container = resolved(document, place.value);
    if (isMap(container)) {
      const pair = entryOf(container, step);
      if (!pair) return place;
      place = {
        key: isNode(pair.key) ? pair.key : undefined,
        value: isNode(pair.value) ? pair.value : undefined,
      };
    } else if (isSeq(container)) {
      const item = container.items[Number(step)];
      if (!isNode(item)) return place;
      place = { value: item };
    } else return place;
  }
  return place;
};

const dotted = (path: Path): string =>
  path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${oneLine(String(step), 60)}`))
    .join('')
    .replace(/^\./u, '');

const unknownKeys = (document: Document, issue: z.core.$ZodIssueUnrecognizedKeys): Mistake[] =>
  issue.keys.map((key) => {
    const guess = nearest(key, issue.message.split(' '));
    const path = dotted([...issue.path, key]);
    const hint = guess ? `did you mean ${guess}?` : `known here: ${issue.message.replaceAll(' ', ', ')}`;
    return {
      at: startOf(placeOf(document, [...issue.path, key]).key) ?? 0,
      says: `unknown key ${path}; ${hint}`,
    };
  });

/** How many of a branch's unknown keys look like slips of its own keys. */
const slips = (issues: readonly z.core.$ZodIssue[]): number =>
  issues.flatMap((one) =>
    one.code === 'unrecognized_keys' ? one.keys.filter((key) => nearest(key, one.message.split(' '))) : [],
  ).length;

/** What is wrong in the branch of a union that the person was writing: its outer shape fits, and most of its keys. */
const meant = (issue: z.core.$ZodIssueInvalidUnion): z.core.$ZodIssue[] | undefined => {
  const isOuter = ({ code, path }: z.core.$ZodIssue): boolean => code === 'invalid_type' && path.length === 0;
  const [best] = issue.errors
    .filter((issues) => !issues.some(isOuter))
    .sort((a, b) => slips(b) - slips(a) || a.length - b.length);
  // A key that is missing because it is misspelt would be told twice.
  const unknown = best?.filter(({ code }) => code === 'unrecognized_keys');
  return unknown?.length ? unknown : best;
};

const written = (node: Node | undefined): string => {
  if (isMap(node)) return 'a map';
  if (isSeq(node)) return 'a list';
  return isScalar(node) && node.value !== null ? `"${oneLine(String(node.value), 40)}"` : 'nothing';
};

const sentence = (issue: z.core.$ZodIssue, value: Node | undefined): string => {
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(String);
    const guess = isScalar(value) ? nearest(String(value.value), values) : undefined;
    return `${written(value)} is not one of ${values.join(', ')}${guess ? `; did you mean ${guess}?` : ''}`;
  }
  if (issue.code === 'invalid_type') {
    const own = issue.message.startsWith('Invalid input')
      ? `expected ${issue.expected === 'object' ? 'keys' : issue.expected}`
      : issue.message;
    return `${own}, not ${written(value)}`;
  }
  return oneLine(issue.message, 150);
};

const mistakesOf = (document: Document, issue: z.core.$ZodIssue): Mistake[] => {
  if (issue.code === 'unrecognized_keys') return unknownKeys(document, issue);
  if (issue.code === 'invalid_union') {
    const inner = meant(issue);
    if (inner)
      return inner.flatMap((one) => mistakesOf(document, { ...one, path: [...issue.path, ...one.path] }));
  }
  if (issue.code === 'invalid_key') {
    const says = `${dotted(issue.path)}: ${oneLine(issue.issues[0]?.message ?? 'not a name', 150)}`;
    return [{ at: startOf(placeOf(document, issue.path).key) ?? 0, says }];
  }
  const place = placeOf(document, issue.path);
  const at = startOf(place.value) ?? startOf(place.key) ?? 0;
  const path = dotted(issue.path);
  return [{ at, says: `${path ? `${path}: ` : ''}${sentence(issue, resolved(document, place.value))}` }];
};

const refuse = (mistakes: readonly Mistake[], fileName: string, lines: LineCounter): never => {
  const sorted = [...mistakes].sort((a, b) => a.at - b.at);
  const shown = sorted.slice(0, MAX_SHOWN).map(({ at, says }) => {
    const { line, col } = lines.linePos(at);
    return `${fileName}:${Math.max(line, 1)}:${Math.max(col, 1)} ${says}`;
  });
  const rest = sorted.length - shown.length;
  const what = [...shown, ...(rest > 0 ? [`… and ${rest} more`] : [])].join('\n');
  throw new KhloneError('config', what, `correct ${fileName}; khlone doctor reads it again`);
};

/**
 * The configuration in the text of a khlone.yml. Throws `config`, whose message has one line `file:line:column what`
 * per mistake, in the order of the file, at most five. `fileName` is shown as it is.
 */
export const parseSiteConfig = (text: string, fileName: string): SiteConfig => {
  const lines = new LineCounter();
  const options = {
    lineCounter: lines,
    prettyErrors: false,
    version: '1.2',
    schema: 'core',
    merge: false,
  } as const;
  const document: Document = parseDocument(text, options);
  const syntax = syntaxMistakes(document);
  if (syntax.length > 0) return refuse(syntax, fileName, lines);

  let plain: unknown;
  try {
    plain = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  } catch (error) {
    const says =
      error instanceof ReferenceError ? 'aliases (*) lead nowhere or to too much' : 'cannot be read';
    return refuse([{ at: 0, says }], fileName, lines);
  }
  const checked = SiteFile.safeParse(plain);
  if (!checked.success) {
    return refuse(
      checked.error.issues.flatMap((issue) => mistakesOf(document, issue)),
      fileName,
      lines,
    );
  }
  const twice = misplaced(checked.data);
  if (twice.length > 0) {
    const at = (path: Path) => startOf(placeOf(document, path).key) ?? 0;
    return refuse(
      twice.map(({ path, says }) => ({ at: at(path), says })),
      fileName,
      lines,
    );
  }
  return frozen(fillDefaults(checked.data));
};
