import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** How a person gets node-pty to where it is looked for: in a node_modules beside or above our own folder. */

const quoted = (path: string): string =>
  /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;

/** The release that we are made for: another one may have to be compiled, or not load at all. */
const wordOf = (root: string): string => {
  try {
    const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const version: unknown = optionalDependencies?.['node-pty'];
    return typeof version === 'string' && /^[\w.+-]+$/.test(version) ? `node-pty@${version}` : 'node-pty';
  } catch {
    return 'node-pty';
  }
};

/** The command for khlone in the folder `root`: installed for all of this Node, in somebody's project, or a checkout. */
export const ptyInstall = (root: string): string => {
  const word = wordOf(root);
  const modules = dirname(root);
  if (!modules.endsWith('/node_modules')) return `npm install --no-save --prefix ${quoted(root)} ${word}`;
  if (modules.endsWith('/lib/node_modules'))
    return `npm install -g --prefix ${quoted(dirname(dirname(modules)))} ${word}`;
  return `npm install --prefix ${quoted(dirname(modules))} ${word}`;
};
