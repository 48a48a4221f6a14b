import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ptyInstall } from '../../../src/client/terminal/pty-install.ts';

const base = mkdtempSync(join(tmpdir(), 'khlone-pty-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

/** A khlone in this folder, and a node-pty where the command for it puts one: whether the first finds the second. */
const finds = (folder: string, pty: string): string => {
  const root = join(base, folder);
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeFileSync(join(root, 'package.json'), '{"optionalDependencies":{"node-pty":"1.2.0-beta.15"}}');
  const at = join(base, pty, 'node_modules/node-pty');
  mkdirSync(at, { recursive: true });
  writeFileSync(join(at, 'index.js'), 'exports.spawn = () => {};');
  const program = join(root, 'dist/attach.cjs');
  writeFileSync(program, "import('node-pty').then((pty) => console.log(typeof pty.default.spawn));");
  expect(execFileSync(process.execPath, [program], { encoding: 'utf8' })).toBe('function\n');
  return ptyInstall(root).replace(base, '…');
};

it('node-pty is found where the command that is named puts it', () => {
  expect(finds('global/lib/node_modules/khlone', 'global/lib')).toBe(
    'npm install -g --prefix …/global node-pty@1.2.0-beta.15',
  );
  expect(finds('project/node_modules/khlone', 'project')).toBe(
    'npm install --prefix …/project node-pty@1.2.0-beta.15',
  );
  expect(finds("a person's checkout", "a person's checkout")).toMatch(
    /^npm install --no-save --prefix '….a person'\\''s checkout' node-pty@/,
  );
});
