import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile, realpath, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { App } from './app.ts';
import { call } from './call.ts';
import type { Connected } from './link/link.ts';
import type { Place } from './place.ts';

/**
 * `.khlone/.bind.worksite/`: what this worktree is bound to, readable without khlone. Written, never read or trusted,
 * and kept out of git by the repository's own exclude file.
 */

const EXCLUDED = '/.khlone/';

const line = (key: string, value: string | number): string => `${key}: ${JSON.stringify(value)}\n`;

const excludeFromGit = async (commonDir: string): Promise<void> => {
  const file = join(commonDir, 'info', 'exclude');
  const text = await readFile(file, 'utf8').catch(() => '');
  if (text.split('\n').includes(EXCLUDED)) return;
  await mkdir(join(commonDir, 'info'), { recursive: true });
  await appendFile(file, `${text === '' || text.endsWith('\n') ? '' : '\n'}${EXCLUDED}\n`);
};

/** A new file by a name that nobody can have laid out, then the rename: a link in the repository is never followed. */
const replaceFile = async (path: string, text: string): Promise<void> => {
  const temp = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await writeFile(temp, text, { flag: 'wx' });
    await rename(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
};

/** Takes the snapshot away; what else somebody put beside it stays. */
export const removeSnapshot = async (root: string): Promise<void> => {
  const dir = join(root, '.khlone', '.bind.worksite');
  if ((await realpath(dir).catch(() => undefined)) !== dir) return;
  await rm(dir, { recursive: true, force: true });
  await rmdir(join(root, '.khlone')).catch(() => {});
};

/** Writes the snapshot of a place's zone as its server knows it now. */
export const snapshotBinding = async (app: App, place: Place, connected: Connected): Promise<void> => {
  const { binding, worktree } = place;
  const { zone: view } = await call(connected.peer, 'zone.get', { zone: binding.zone });
  if (!view) return;
  const dir = join(binding.root, '.khlone', '.bind.worksite');
  await excludeFromGit(worktree.commonDir);
  await mkdir(dir, { recursive: true });
  // A committed link would lead these files out of the worktree.
  if ((await realpath(dir)) !== dir) return;
  const zone = [
    line('zone', binding.address),
    line('mode', binding.mode),
    line('host', binding.host),
    line('path', binding.path),
    line('id', binding.zone),
    line('home', app.home.root),
  ];
  const crew = view.crew.map(
    (clone) => `${clone.name}:\n  brain: ${JSON.stringify(clone.brain)}\n  state: ${clone.state}\n`,
  );
  const tasks = view.crew.flatMap((clone) =>
    clone.task
      ? [`${clone.task}:\n  clone: ${clone.name}\n  title: ${JSON.stringify(clone.title ?? '')}\n`]
      : [],
  );
  await replaceFile(join(dir, 'zone.yml'), zone.join(''));
  await replaceFile(join(dir, 'crew.yml'), crew.join('') || '{}\n');
  await replaceFile(join(dir, 'task.yml'), tasks.join('') || '{}\n');
};
