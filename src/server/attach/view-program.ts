import type { PaneProgram } from '../tmux/panes.ts';

/** The words that start the renderer of a clone: this same bundle, with a heap that cannot grow with what is printed. */

const HEAP = ['--max-old-space-size=96', '--max-semi-space-size=2'];

/** `bundle`: the server's one file. `home`: KHLONE_HOME, where its socket is. */
export const viewProgram = (
  world: { bundle: string; home: string; path: string },
  zone: string,
  clone: string,
): PaneProgram => ({
  argv: [process.execPath, ...HEAP, world.bundle, 'view', zone, clone],
  env: { PATH: world.path, KHLONE_HOME: world.home },
  cwd: '/',
});
