import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { enter, removeEmpty } from '../../src/patch/beneath.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'khlone-beneath-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('folders below a worktree', () => {
  it('are made as open as it is, whatever the umask of hub and server', async () => {
    for (const mode of [0o755, 0o700]) {
      chmodSync(root, mode);
      rmSync(join(root, 'made'), { recursive: true, force: true });
      const umask = process.umask(0o077);
      try {
        await (await enter(root, ['made', 'within'], true))?.close();
      } finally {
        process.umask(umask);
      }
      for (const path of ['made', 'made/within']) expect(statSync(join(root, path)).mode & 0o777).toBe(mode);
    }
  });

  it('that are there keep their mode, and links are not entered', async () => {
    mkdirSync(join(root, 'own'));
    chmodSync(join(root, 'own'), 0o711);
    symlinkSync(tmpdir(), join(root, 'link'));
    await (await enter(root, ['own', 'made'], true))?.close();
    expect(statSync(join(root, 'own')).mode & 0o777).toBe(0o711);
    expect(await enter(root, ['link', 'made'], true)).toBeUndefined();
  });

  it('are removed where they hold nothing but empty ones, and links are no folders', async () => {
    mkdirSync(join(root, 'away'));
    for (const name of ['one', 'two', 'link']) mkdirSync(join(root, name, 'in/é'), { recursive: true });
    writeFileSync(join(root, 'two/in/file'), '');
    symlinkSync(join(root, 'away'), join(root, 'link/in/to'));
    expect(await removeEmpty(root, ['one'])).toBe(true);
    for (const name of ['two', 'link']) expect(await removeEmpty(root, [name])).toBe(false);
    expect(readdirSync(root).sort()).toEqual(['away', 'link', 'two']);
    expect(readdirSync(join(root, 'two/in')).sort()).toEqual(['file', 'é']);
  });

  it('are entered again once there are descriptors, where there was none for the first one', () => {
    const program = `
      import { closeSync, openSync } from 'node:fs';
      import { enter } from '${join(import.meta.dirname, '../../src/patch/beneath.ts')}';
      const held = [];
      try { for (;;) held.push(openSync('/dev/null', 'r')); } catch {}
      const say = () => enter('${root}', [], false).then((one) => one.close().then(() => 'entered'), ({ code }) => code);
      const first = await say();
      held.forEach((fd) => closeSync(fd));
      console.log(first, await say());`;
    const words = ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, program];
    expect(execFileSync('sh', words, { encoding: 'utf8' })).toBe('EMFILE entered\n');
  });
});
