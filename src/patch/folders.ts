import { createHash } from 'node:crypto';
import { lstatSync, type Stats } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import * as z from 'zod';
import { isYoung } from './file-mark.ts';
import { git } from './git.ts';
import { type Path, records, toBytes } from './listing.ts';
import { isLocal, lstat, stat } from './near-disk.ts';
import { personalFolder, type SettingsPlace, settingPath, settingsMark } from './settings.ts';
import { MAX_LISTING_BYTES } from './shadow.ts';

/**
 * Whether a worktree has names that it did not have, told by the times of its folders: one whose time of change is as
 * it was has the names that it had. Git's untracked cache rests on the same. A listing of all files takes a hundred
 * times as many questions.
 */

/** With more folders than this, all files are listed each time. */
const MAX_FOLDERS = 5_000;
const MAX_LEVELS = 64;
const AT_ONCE = 64;
/** A note is written anew once so many folders were read although their names are the same. */
const STALE_MARKS = 16;
/** What was seen of a worktree's folders. None: it is listed each time. */
export const Folders = z.strictObject({
  /** What decides of names whether they are ignored, by its marks. */
  rules: z.string(),
  /** Where `core.excludesFile` is. */
  excludesFile: z.string(),
  /** The folders that have rules of their own. */
  rulesIn: z.array(z.string()),
  /** Path, inode, time of change in ms (0: it was too young to tell), and a digest of the names. */
  seen: z.array(z.tuple([z.string(), z.number(), z.number(), z.string()])),
});
export type Folders = z.infer<typeof Folders>;

type Folder = { ino: number; changedMs: number; names: string };
type Read = Folder & { below: Path[]; hasRules: boolean };

const IGNORE = '.gitignore';
const NONE: Folders = { rules: '', excludesFile: '', rulesIn: [], seen: [] };

const under = ({ worktree }: SettingsPlace, path: Path): Buffer =>
  Buffer.concat([Buffer.from(`${worktree}/`), toBytes(path)]);

const within = (folder: Path, name: Path): Path => (folder === '' ? name : `${folder}/${name}`);

const factsOf = (path: string | Buffer): Promise<Stats | undefined> => lstat(path).catch(() => undefined);

/** A disk of this machine whose times have parts of a second takes them from the kernel, ten milliseconds a tick at most. */
const YOUNG_IN_PARTS_MS = 100;

const isTooYoung = (ctimeMs: number): boolean =>
  ctimeMs % 1_000 === 0 ? isYoung(ctimeMs) : ctimeMs > Date.now() - YOUNG_IN_PARTS_MS;

/** Folders that are asked for at once without the thread pool, which takes ten times as long where the disk has no part. */
const SYNC_AT_ONCE = 16;
/** Such a turn that took longer waited for the disk: then the threads wait, and other work goes on. */
const SYNC_MS = 3;

const factsNow = (path: Buffer): Stats | undefined => {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
};

const factsOfEach = async (place: SettingsPlace, paths: readonly Path[]): Promise<(Stats | undefined)[]> => {
  const found: (Stats | undefined)[] = [];
  for (let isQuick = true; isQuick && found.length < paths.length; await setImmediate()) {
    const begun = performance.now();
    const some = paths.slice(found.length, found.length + SYNC_AT_ONCE);
    found.push(...some.map((path) => factsNow(under(place, path))));
    isQuick = performance.now() - begun < SYNC_MS;
  }
  const rest = await inTurns(paths.slice(found.length), (path) => factsOf(under(place, path)));
  return [...found, ...rest];
};

/** The time of change, unlike that of modification, is nobody's to set; 0 where it is too young to tell anything. */
const changedMs = ({ ctimeMs }: Stats): number => (isTooYoung(ctimeMs) ? 0 : ctimeMs);

const inTurns = async <P, T>(list: readonly P[], each: (one: P) => Promise<T>): Promise<T[]> => {
  const found: T[] = [];
  for (let at = 0; at < list.length; at += AT_ONCE)
    found.push(...(await Promise.all(list.slice(at, at + AT_ONCE).map(each))));
  return found;
};

/** The names in a folder whose facts were asked before. One that cannot be read has names like no other's. */
const readNames = async (place: SettingsPlace, path: Path, facts: Stats): Promise<Read> => {
  const options = { withFileTypes: true, encoding: 'latin1' } as const;
  const entries = await readdir(under(place, path), options).catch(() => undefined);
  const { ino } = facts;
  if (!entries) return { ino, changedMs: 0, names: '', below: [], hasRules: false };
  const words = entries.map((entry) => `${entry.name}${entry.isDirectory() ? '/' : ''}`).toSorted();
  const below = entries.filter((entry) => entry.isDirectory() && entry.name !== '.git');
  return {
    ...{ ino, changedMs: changedMs(facts) },
    names: createHash('sha256').update(words.join('\0'), 'latin1').digest('base64url').slice(0, 22),
    below: below.map(({ name }) => within(path, name)),
    hasRules: entries.some(({ name }) => name === IGNORE),
  };
};

/** What decides which names are ignored, '' where some of it was written just now. */
const rulesMark = async (
  place: SettingsPlace,
  { excludesFile, rulesIn }: Pick<Folders, 'excludesFile' | 'rulesIn'>,
): Promise<string> => {
  // Git follows a link to a person's rules, and none to a worktree's own.
  const shared = [join(place.commonDir, 'info/exclude'), excludesFile].map((file) =>
    stat(file).catch(() => undefined),
  );
  const own = rulesIn.map((folder) => factsOf(under(place, within(folder, IGNORE))));
  const facts = await Promise.all([...shared, ...own]);
  if (facts.some((one) => one && changedMs(one) === 0)) return '';
  const marks = facts.map((one) => (one ? `${one.ino} ${one.ctimeMs}` : 'none'));
  return [await settingsMark(place), ...marks].join(';');
};

/**
 * The folders among these in which git lists files, undefined where it cannot tell. In an ignored one it lists none,
 * not beside tracked files either; asked without the index, it does not look through it for each of them.
 */
const notIgnored = async (place: SettingsPlace, folders: readonly Path[]): Promise<Path[] | undefined> => {
  if (folders.length === 0) return [];
  const said = await git(['check-ignore', '--no-index', '-z', '--stdin'], {
    ...{ cwd: place.worktree, deadlineMs: place.deadlineMs, maxBytes: MAX_LISTING_BYTES },
    // A name that begins with a colon would be more than a name.
    input: toBytes(folders.map((path) => `./${path}\0`).join('')),
  });
  if (said.code > 1) return undefined;
  const ignored = new Set(records(said.stdout));
  return folders.filter((path) => !ignored.has(`./${path}`));
};

type Walked = { folders: Map<Path, Folder>; rulesIn: Path[] };

/** Adds these folders and all below them that are not ignored; false where there are too many, or another disk begins. */
const walk = async (
  place: SettingsPlace,
  { folders, rulesIn }: Walked,
  from: readonly Path[],
): Promise<boolean> => {
  const dev = (await factsOf(place.worktree))?.dev;
  let level = from;
  for (let n = 0; level.length > 0; n += 1) {
    if (n === MAX_LEVELS || folders.size + level.length > MAX_FOLDERS) return false;
    let isOneDisk = true;
    const below = await inTurns(level, async (path) => {
      const facts = await factsOf(under(place, path));
      // One that is gone again: the one that it was in has other names by now.
      if (!facts?.isDirectory()) return [];
      isOneDisk &&= facts.dev === dev;
      const { hasRules, below, ...folder } = await readNames(place, path, facts);
      folders.set(path, folder);
      if (hasRules) rulesIn.push(path);
      return below;
    });
    const next = isOneDisk && (await notIgnored(place, below.flat()));
    if (!next) return false;
    level = next;
  }
  return true;
};

const notedAs = async (
  place: SettingsPlace,
  { folders, rulesIn }: Walked,
  excludesFile: string,
): Promise<Folders> => {
  const rules = await rulesMark(place, { excludesFile, rulesIn });
  return {
    ...{ rules, excludesFile, rulesIn },
    seen: [...folders].map(([path, { ino, changedMs, names }]) => [path, ino, changedMs, names]),
  };
};

/**
 * A note of all folders, to be taken before git lists the files and to be confirmed afterwards: names that come in
 * between are in the list then, and the note does not know them.
 */
export const noteFolders = async (place: SettingsPlace): Promise<Folders> => {
  // What another machine or a program serves may keep no times.
  if (!(await isLocal(place.worktree))) return NONE;
  const set = await settingPath(place, 'core.excludesFile');
  if (set === '') return NONE;
  const walked: Walked = { folders: new Map(), rulesIn: [] };
  if (!(await walk(place, walked, ['']))) return NONE;
  return notedAs(place, walked, set ? resolve(place.worktree, set) : join(personalFolder(), 'ignore'));
};

/** Reads again what is not as it was noted: whether all names are the same, and folders that are new. */
const readAgain = async (
  place: SettingsPlace,
  { folders, rulesIn }: Walked,
): Promise<{ isSame: boolean; stale: number; fresh: Path[]; newRules: boolean }> => {
  const again = { isSame: true, stale: 0, fresh: [] as Path[], newRules: false };
  const all = await factsOfEach(place, [...folders.keys()]);
  const found = [...folders].map(([path, known], n) => ({ path, known, facts: all[n] }));
  const isOther = ({ known, facts }: (typeof found)[number]): boolean =>
    !facts?.isDirectory() || facts.ctimeMs !== known.changedMs || facts.ino !== known.ino;
  await inTurns(found.filter(isOther), async ({ path, known, facts }) => {
    if (!facts?.isDirectory()) {
      folders.delete(path);
      again.isSame = false;
      return;
    }
    again.stale += 1;
    const { hasRules, below, ...folder } = await readNames(place, path, facts);
    folders.set(path, folder);
    if (folder.names !== '' && folder.names === known.names) return;
    again.isSame = false;
    again.fresh.push(...below.filter((one) => !folders.has(one)));
    again.newRules ||= hasRules && !rulesIn.includes(path);
  });
  return again;
};

/**
 * Looks at the folders of a note, before git lists the files where it has to. `isSame`: every name that is there now
 * was there then, and none is gone. `now`: the note as it is true now, the same one where it is hardly different;
 * undefined where it has to be taken anew.
 */
export const lookAgain = async (
  place: SettingsPlace,
  noted: Folders,
): Promise<{ isSame: boolean; now: Folders | undefined }> => {
  if (noted.seen.length === 0) return { isSame: false, now: noted };
  if (noted.rules === '') return { isSame: false, now: undefined };
  const walked: Walked = {
    folders: new Map(noted.seen.map(([path, ino, changedMs, names]) => [path, { ino, changedMs, names }])),
    rulesIn: [...noted.rulesIn],
  };
  const [rules, { isSame, stale, fresh, newRules }] = await Promise.all([
    rulesMark(place, noted),
    readAgain(place, walked),
  ]);
  if (newRules || rules !== noted.rules) return { isSame: false, now: undefined };
  if (isSame && stale < STALE_MARKS) return { isSame, now: noted };
  const below = await notIgnored(place, fresh);
  const isWhole = below !== undefined && (await walk(place, walked, below));
  return { isSame, now: isWhole ? await notedAs(place, walked, noted.excludesFile) : NONE };
};

/**
 * A note once git has listed the files. A name that was noted may have been away while git listed, and be back at the
 * next look: what changed since, or is too young to tell, has names like no other's.
 */
export const confirmed = async (place: SettingsPlace, noted: Folders): Promise<Folders> => {
  const all = await factsOfEach(
    place,
    noted.seen.map(([path]) => path),
  );
  const seen = noted.seen.map((one, n): Folders['seen'][number] => {
    const [path, ino, changedMs] = one;
    const facts = all[n];
    return facts?.ino === ino && facts.ctimeMs === changedMs ? one : [path, ino, 0, ''];
  });
  return { ...noted, seen };
};
