import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DEFAULT_SITE_CONFIG, loadSiteConfig, MAX_SITE_FILE_BYTES } from '../../src/client/site-config.ts';
import { until } from '../fixtures/server.ts';

const dir = mkdtempSync(join(tmpdir(), 'khlone-config-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let folders = 0;
const folder = (files: Record<string, string>): string => {
  folders += 1;
  const root = join(dir, String(folders));
  mkdirSync(root);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text);
  return root;
};

describe('loadSiteConfig', () => {
  it('gives the defaults where there is no file', async () => {
    expect(await loadSiteConfig(folder({}))).toBe(DEFAULT_SITE_CONFIG);
  });

  it('reads either name, and refuses both', async () => {
    expect((await loadSiteConfig(folder({ 'khlone.worksite.yml': 'hero: foreman' }))).crew.hero.role).toBe(
      'foreman',
    );
    const both = folder({ 'khlone.yml': '', 'khlone.worksite.yml': '' });
    await expect(loadSiteConfig(both)).rejects.toMatchObject({
      code: 'config',
      message: /both khlone\.yml and/u,
    });
    const wrong = folder({ 'khlone.worksite.yml': 'her: foreman' });
    await expect(loadSiteConfig(wrong)).rejects.toMatchObject({
      message: /^khlone\.worksite\.yml:1:1 unknown key her/u,
    });
  });

  it('reads a changed file again, and an unchanged one not', async () => {
    const root = folder({ 'khlone.yml': 'hero: aaa' });
    const load = () => loadSiteConfig(root);
    // A file changed just now is not remembered: its time stamp has to be old enough first.
    await until('it is not read again', async () => Object.is(await load(), await load()));
    writeFileSync(join(root, 'khlone.yml'), 'hero: bbb');
    expect((await load()).crew.hero.role).toBe('bbb');
  });

  it('does not miss a change of the same size in the same instant', async () => {
    const root = folder({});
    const at = new Date();
    for (let i = 10; i < 40; i += 1) {
      writeFileSync(join(root, 'khlone.yml'), `hero: h${i}`);
      utimesSync(join(root, 'khlone.yml'), at, at);
      expect((await loadSiteConfig(root)).crew.hero.role).toBe(`h${i}`);
    }
  });

  it('refuses what is no small text file', async () => {
    const large = folder({ 'khlone.yml': '#'.repeat(MAX_SITE_FILE_BYTES + 1) });
    await expect(loadSiteConfig(large)).rejects.toMatchObject({
      code: 'config',
      message: /larger than 256 KiB/u,
    });
    const binary = folder({});
    writeFileSync(join(binary, 'khlone.yml'), Buffer.from([0xff, 0xfe, 0x00]));
    await expect(loadSiteConfig(binary)).rejects.toMatchObject({ code: 'config', message: /not UTF-8/u });
    const fifo = folder({});
    execFileSync('mkfifo', [join(fifo, 'khlone.yml')]);
    await expect(loadSiteConfig(fifo)).rejects.toMatchObject({ code: 'config', message: /is not a file/u });
    const inner = folder({});
    mkdirSync(join(inner, 'khlone.yml'));
    await expect(loadSiteConfig(inner)).rejects.toMatchObject({ code: 'config' });
  });
});
