import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf, write } from './far-world.ts';

/** Syncs while the host cannot be reached: they wait in one order with the tasks, and arrive once. */

describe.skipIf(sshdMissing)(`syncs off line${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const act = (line: string) => far.ok(['act', '--who', '@sh', line]);
  const outbox = (): string[] => readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));
  const readThere = (name: string): string => readFileSync(join(far.zone, name), 'utf8');
  const emptied = () => until('the outbox is empty', () => outbox().length === 0, 35_000);
  const prompt = (): string[] => {
    const dir = join(far.home.root, 'shell/zones');
    const [name = ''] = readdirSync(dir);
    return readFileSync(join(dir, name), 'utf8').trim().split('\t');
  };
  const status = async (): Promise<string> => (await far.ok(['status'])).stdout;

  beforeAll(async () => {
    const many = Object.fromEntries(Array.from({ length: 14 }, (_, n) => [`many/${n}`, `${n}\n`]));
    far = await createFarWorld({ files: { 'src/api.ts': 'a\nb\nc\n', ...many } });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  /** Two acts between three syncs; each act tells which files it saw. */
  const queueAll = async (word: string) => {
    await far.sshd.close();
    if (word === 'x') {
      expect(await far.says(['sync'])).toBe('! ⚠ nothing to send [zone unreachable]\n');
      expect(outbox()).toHaveLength(0);
    }
    for (const name of ['a', 'b', 'c']) write(far, `${word}-${name}`, '1\n');
    const first = await far.says(['sync']);
    const one = await act(`ls ${word}-* | tr '\\n' ' ' >> saw; cat ${word}-a >> saw`);
    write(far, `${word}-d`, '1\n');
    await far.ok(['sync']);
    write(far, `${word}-a`, '2\n');
    await far.ok(['sync']);
    const two = await act(`ls ${word}-d >> saw; cat ${word}-a >> saw`);
    write(far, `${word}-e`, '1\n');
    const last = await far.says(['sync', '--json']);
    return { first, last, one, two };
  };

  it('are queued in order with the acts, told by status, and arrive once', async () => {
    const { first, last, two } = await queueAll('x');
    expect(first).toBe('! ⚠ 3 files [queued here: zone unreachable]\n');
    expect(JSON.parse(last)).toEqual({ queued: true, files: 5 });
    // The two in the middle are one: no task stands between them.
    expect(outbox()).toHaveLength(5);
    expect(await status()).toMatch(/queued here {2}2 tasks, 3 patches \(5 files\)/);
    await far.sshd.open();
    expect((await far.ok(['reconnect'])).stderr).toMatch(
      /✓ connected to zone\n✓ sent 2 tasks, synced 5 files\n$/,
    );
    await emptied();
    await far.ok(['await', idOf(two)]);
    // The first act had its files, and the second what was synced before it.
    expect(readThere('saw')).toMatch(/^x-a x-b x-c (x-d )?(x-e )?[12]\nx-d\n2\n$/);
    expect(readThere('x-e')).toBe('1\n');
    expect(await far.says(['sync'])).toBe('! ✓ nothing to send\n');
  });

  it('go on where a hub was killed in the middle of them', async () => {
    rmSync(join(far.zone, 'saw'));
    const { two } = await queueAll('y');
    await far.kill(far.hubPid());
    await far.sshd.open();
    const died = join(far.base, 'died');
    const faulty = { KHLONE_FAULT: `outbox-answered:3:${died}` };
    await far.khlone(['reconnect'], { env: faulty });
    await until('the hub died in the middle', () => existsSync(died));
    await far.ok(['status']);
    await emptied();
    await far.ok(['await', idOf(two)]);
    expect(readThere('saw')).toMatch(/^y-a y-b y-c (y-d )?(y-e )?[12]\ny-d\n2\n$/);
    expect(await far.says(['sync'])).toBe('! ✓ nothing to send\n');
  });

  it('find a conflict on their way, which is told everywhere and waits', async () => {
    await far.sshd.close();
    write(far, 'src/api.ts', 'a\nmine\nc\n');
    write(far, 'free', '1\n');
    await far.ok(['sync']);
    writeFileSync(join(far.zone, 'src/api.ts'), 'a\ntheirs\nc\n');
    await far.sshd.open();
    const back = await far.ok(['reconnect']);
    expect(back.stderr).toContain('⚠ conflict in src/api.ts — khlone pull to resolve\n');
    await emptied();
    expect(readThere('free')).toBe('1\n');
    expect(readThere('src/api.ts')).toBe('a\ntheirs\nc\n');
    expect(await status()).toMatch(/^.─ sync {2}1 file to pull, 1 conflict$/m);
    await until('the prompt tells it', () => prompt()[7] === '1');
    expect((await far.khlone(['pull'])).stderr).toContain('⚠ conflict in src/api.ts\n');
    await far.ok(['resolve', 'src/api.ts', '--keep', 'local']);
    await until('the prompt knows that it is over', () => prompt()[7] === '0');
    await far.ok(['sync']);
    expect(readThere('src/api.ts')).toBe('a\nmine\nc\n');
  });

  it('are set aside with their reason where they would delete most of the files', async () => {
    await far.sshd.close();
    for (let n = 0; n < 14; n += 1) rmSync(join(far.repo, `many/${n}`));
    for (const name of ['free', 'src/api.ts', 'README.md']) rmSync(join(far.repo, name));
    await far.ok(['sync']);
    const after = await act('echo behind >> saw');
    await far.sshd.open();
    const back = await far.ok(['reconnect']);
    expect(back.stderr).toMatch(
      /⚠ a queued sync was stopped: 17 of \d+ files would be deleted in the zone ↳ khlone sync --yes/,
    );
    await far.ok(['await', idOf(after)]);
    expect(outbox()).toHaveLength(0);
    expect(readThere('many/3')).toBe('3\n');
    expect(await status()).toMatch(/^✗ a queued sync was stopped: 17 of \d+ files.*↳ khlone sync --yes/m);
    expect(await far.says(['sync', '--yes'])).toBe('! ✓ 17 files sent\n');
    expect(existsSync(join(far.zone, 'many/3'))).toBe(false);
    expect(await status()).not.toContain('stopped');
  });

  it('may name files, and are refused while git is in the middle of something', async () => {
    await far.sshd.close();
    write(far, 'named', '1\n');
    write(far, 'other', '1\n');
    expect(await far.says(['sync', 'named'])).toBe('! ⚠ 1 file [queued here: zone unreachable]\n');
    writeFileSync(join(far.repo, '.git/MERGE_HEAD'), '');
    expect(await far.says(['sync'])).toContain('✗ nothing was moved: a merge is not finished');
    rmSync(join(far.repo, '.git/MERGE_HEAD'));
    await far.sshd.open();
    await far.ok(['reconnect']);
    await emptied();
    expect(readThere('named')).toBe('1\n');
    expect(existsSync(join(far.zone, 'other'))).toBe(false);
  });
});
