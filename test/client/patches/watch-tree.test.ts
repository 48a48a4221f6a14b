import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, it } from 'vitest';
import { createTreeWatch, type TreeWatch } from '../../../src/client/patches/watch-tree.ts';
import { until } from '../../fixtures/khlone.ts';
import { commitAll, makeGround, makeRepo, put } from '../../patch/ground.ts';

/** Hints of what changes in a worktree, in each directory that holds a file which counts. */

let ground: ReturnType<typeof makeGround>;
let root: string;
let hints = 0;
let watch: TreeWatch;

beforeEach(async () => {
  ground = makeGround();
  root = makeRepo(ground.dir);
  put(root, 'src/deep/a.txt', 'a\n');
  put(root, '.gitignore', 'ignored/\n');
  commitAll(root, 'files');
  hints = 0;
  watch = createTreeWatch(root, () => {
    hints += 1;
  });
  await watch.update();
});
afterEach(() => {
  watch.close();
  ground.remove();
});

/** What the work causes, once the directories of that moment are watched. */
const hinted = async (what: string, work: () => void): Promise<void> => {
  const before = hints;
  work();
  await until(`a hint of ${what}`, () => hints > before, 5_000);
  await watch.update();
};

/** Hints of what was done before may come a little later: whatever comes next is told by a file of its own. */
const edit = (path: string): Promise<void> =>
  hinted(path, () => writeFileSync(join(root, path), `${Math.random()}\n`));

it('come from each directory, and from those that are made later', async () => {
  await edit('src/deep/a.txt');
  await hinted('a directory', () => mkdirSync(join(root, 'new/er'), { recursive: true }));
  await hinted('a file beside it', () => put(root, 'beside.txt', '1\n'));
  put(root, 'new/er/b.txt', '1\n');
  await edit('beside.txt');
  await edit('new/er/b.txt');
});

it('come from a directory that was removed and made again', async () => {
  await hinted('the end of a directory', () => rmSync(join(root, 'src'), { recursive: true }));
  await hinted('its new beginning', () => put(root, 'src/deep/a.txt', 'again\n'));
  await edit('README.md');
  await edit('src/deep/a.txt');
  await hinted('both at once', () => {
    rmSync(join(root, 'src'), { recursive: true });
    put(root, 'src/deep/a.txt', 'a third time\n');
  });
  await edit('README.md');
  await edit('src/deep/a.txt');
});

it('come from what an ignore rule let go', async () => {
  put(root, 'ignored/b.txt', '1\n');
  await edit('README.md');
  await hinted('other rules', () => put(root, '.gitignore', '# none\n'));
  await edit('README.md');
  await edit('ignored/b.txt');
});
