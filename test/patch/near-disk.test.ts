import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  exists,
  isLocal,
  link,
  lstat,
  makeFolder,
  openRead,
  readFile,
  readlink,
  readNames,
  readText,
  realpath,
  rename,
  stat,
  statBig,
  syncPath,
  unlink,
  writeDurable,
  writeSmall,
} from '../../src/patch/near-disk.ts';
import { until } from '../fixtures/khlone.ts';

const FAR_LONGER = 300_000;
const MANY = 5_000;

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'khlone-disk-'));
  writeFileSync(join(root, 'text'), 'words\n');
  writeFileSync(join(root, 'long'), Buffer.alloc(FAR_LONGER, 7));
  symlinkSync('text', join(root, 'link'));
  symlinkSync('nowhere', join(root, 'dangling'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
});
afterEach(() => rmSync(root, { recursive: true }));

/** A folder is asked by the threads until it is known to be on a disk of this machine: both ways answer the same. */
const bothWays = async (look: () => Promise<void>): Promise<void> => {
  await look();
  await until('the folder is known', async () => {
    let turns = 0;
    setImmediate(() => {
      turns += 1;
    });
    for (let n = 0; n < 100; n += 1) await lstat(join(root, 'text'));
    // Asked on the spot, a hundred answers take less than a turn.
    return turns === 0;
  });
  await look();
};

describe('a disk of this machine', () => {
  it('is told from what a program or another machine serves', async () => {
    expect(await isLocal(root)).toBe(true);
    expect(await isLocal('/proc')).toBe(false);
    expect(await isLocal(join(root, 'nowhere'))).toBe(false);
  });

  it('gives the answers that node gives', async () => {
    const at = (name: string): string => join(root, name);
    await bothWays(async () => {
      expect((await lstat(at('link'))).isSymbolicLink()).toBe(true);
      expect((await stat(at('link'))).ino).toBe(statSync(at('text')).ino);
      expect((await statBig(at('text'))).mtimeNs).toBe(lstatSync(at('text'), { bigint: true }).mtimeNs);
      expect([await exists(at('text')), await exists(at('dangling'))]).toEqual([true, false]);
      expect((await readlink(at('link'))).toString()).toBe('text');
      expect(await realpath(at('link'))).toBe(await realpath(at('text')));
      expect((await readNames(root)).sort()).toEqual(['dangling', 'link', 'long', 'pipe', 'text']);
      expect(await readText(Buffer.from(at('text')))).toBe('words\n');
      expect((await readFile(at('long'))).equals(Buffer.alloc(FAR_LONGER, 7))).toBe(true);
      await expect(lstat(at('none'))).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(readText(at('none/deeper'))).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(readText(root)).rejects.toMatchObject({ code: 'EINVAL' });
    });
  });

  it('takes names of any bytes', async () => {
    const name = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xe9])]);
    mkdirSync(name);
    const inside = Buffer.concat([name, Buffer.from('/file')]);
    writeFileSync(inside, 'inside');
    await bothWays(async () => {
      expect(await readText(inside)).toBe('inside');
      expect(await exists(Buffer.concat([name, Buffer.from('/other')]))).toBe(false);
    });
  });

  it('takes small files and names as node does', async () => {
    const at = (name: string): string => join(root, name);
    await bothWays(async () => {
      await makeFolder(at('folder'), 0o700);
      await expect(makeFolder(at('folder'), 0o700)).rejects.toMatchObject({ code: 'EEXIST' });
      await writeSmall(at('new'), 'new\n', { mode: 0o600, isNew: true });
      await expect(writeSmall(at('new'), '', { mode: 0o600, isNew: true })).rejects.toMatchObject({
        code: 'EEXIST',
      });
      expect(statSync(at('new')).mode & 0o777).toBe(0o600);
      await expect(link(at('new'), at('text'))).rejects.toMatchObject({ code: 'EEXIST' });
      await link(at('new'), at('folder/other'));
      await rename(at('folder/other'), at('moved'));
      expect(statSync(at('moved')).ino).toBe(statSync(at('new')).ino);
      for (const name of ['new', 'moved']) await unlink(at(name));
      await expect(unlink(at('new'))).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(rename(at('new'), at('moved'))).rejects.toMatchObject({ code: 'ENOENT' });
      rmdirSync(at('folder'));
    });
  });

  it('brings files and names onto the disk as node does', async () => {
    const at = (name: string): string => join(root, name);
    await bothWays(async () => {
      const text = { mode: 0o600, isNew: true, permissions: 0o644 };
      await writeDurable(at('new'), 'new\n', text);
      await expect(writeDurable(at('new'), '', text)).rejects.toMatchObject({ code: 'EEXIST' });
      expect(statSync(at('new')).mode & 0o777).toBe(0o644);
      await writeDurable(at('new'), Buffer.alloc(FAR_LONGER, 7), { mode: 0o600 });
      expect((await readFile(at('new'))).equals(Buffer.alloc(FAR_LONGER, 7))).toBe(true);
      await writeDurable(at('new'), 'short\n', { mode: 0o600 });
      expect(await readText(at('new'))).toBe('short\n');
      for (const path of [at('new'), root]) await syncPath(path);
      await unlink(at('new'));
      await expect(syncPath(at('new'))).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(writeDurable(at('none/new'), '', text)).rejects.toMatchObject({ code: 'ENOENT' });
    });
  });

  it('writes through no link, and into no pipe', async () => {
    await bothWays(async () => {
      for (const write of [writeSmall, writeDurable]) {
        await expect(write(join(root, 'link'), 'other\n', { mode: 0o600 })).rejects.toMatchObject({
          code: 'ELOOP',
        });
        await expect(write(join(root, 'pipe'), 'other\n', { mode: 0o600 })).rejects.toMatchObject({
          code: 'ENXIO',
        });
      }
      expect(await readText(join(root, 'text'))).toBe('words\n');
    });
  });

  it('waits for nobody who might write into a pipe', async () => {
    await bothWays(async () => {
      await expect(readText(join(root, 'pipe'))).rejects.toMatchObject({ code: 'EINVAL' });
      const file = await openRead(join(root, 'pipe'));
      expect((await file.stat()).isFIFO()).toBe(true);
      await file.close();
    });
  });

  it('leaves others their turn, however much is asked', async () => {
    await bothWays(() => Promise.resolve());
    let turns = 0;
    let over = false;
    const count = (): void => {
      turns += 1;
      if (!over) setImmediate(count);
    };
    setImmediate(count);
    for (let n = 0; n < MANY; n += 1) await lstat(join(root, 'text'));
    over = true;
    expect(turns).toBeGreaterThan(1);
  });
});
