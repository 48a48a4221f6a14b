import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf, write } from './far-world.ts';

/** A task and the edits that it needs: sent first when that is asked for, told when they are not there. */

describe.skipIf(sshdMissing)(`a dispatch and its edits${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const act = (line: string, ...words: string[]) => far.khlone(['act', '--who', '@sh', ...words, line]);
  const outbox = (): string[] => readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));
  const readThere = (name: string): string => readFileSync(join(far.zone, name), 'utf8');

  beforeAll(async () => {
    const many = Object.fromEntries(Array.from({ length: 14 }, (_, n) => [`many/${n}`, `${n}\n`]));
    far = await createFarWorld({ files: { 'src/api.ts': 'a\nb\nc\n', ...many } });
    await far.ok(['act', '--who', '@sh', 'true', '--await', '--sync']);
  });
  afterAll(() => far?.dispose());

  it('says how many files its zone has not seen, behind the receipt', async () => {
    for (const name of ['one', 'two', 'three']) write(far, name, '1\n');
    // A machine under load may not know it in the time that a receipt has.
    let said = '';
    await until('it is known in time', async () => {
      said = (await act('true')).stderr;
      return said.includes('not synced');
    });
    expect(said).toMatch(/^✓ task-\w+ → .*\n⚠ 3 files not synced \(khlone sync, or --sync\)\n$/);
    expect((await act('true', '--quiet')).stderr).toBe('');
  });

  it('sees them with --sync', async () => {
    const seen = await far.ok(['act', '--who', '@sh', '--sync', '--await', 'cat one two three']);
    expect(seen.stdout).toBe('1\n1\n1\n');
    expect((await act('true')).stderr).not.toContain('not synced');
  });

  it('goes on beside a conflict, which it tells, and stops where the sync stops', async () => {
    write(far, 'src/api.ts', 'a\nmine\nc\n');
    write(far, 'one', '2\n');
    writeFileSync(join(far.zone, 'src/api.ts'), 'a\ntheirs\nc\n');
    const beside = await act('cat one > saw', '--sync');
    expect(beside.stderr).toContain('⚠ conflict in src/api.ts\n');
    expect(beside.stderr).toMatch(/✓ task-/);
    await far.ok(['await', idOf(beside)]);
    expect(readThere('saw')).toBe('2\n');
    await far.ok(['resolve', 'src/api.ts', '--keep', 'local']);
    for (let n = 0; n < 14; n += 1) rmSync(join(far.repo, `many/${n}`));
    const stopped = await act('echo run > never', '--sync');
    expect(stopped.code).toBe(3);
    expect(stopped.stderr).toMatch(/✗ nothing was moved: 14 of \d+ files would be deleted in the zone/);
    expect(stopped.stderr).not.toContain('task-');
    await far.ok(['sync', '--yes']);
  });

  it('waits behind them off line, in order', async () => {
    await far.sshd.close();
    write(far, 'late', '1\n');
    const queued = await act('cat late > found', '--sync');
    expect(queued.stderr).toMatch(
      /^⚠ 1 file \[queued here: zone unreachable\]\n⚠ task-\w+ → @sh \(@main\) \[queued here: zone unreachable\]\n/,
    );
    expect(queued.ms).toBeLessThan(4_000);
    expect(outbox()).toHaveLength(2);
    // What waits in front of a task is no edit that the zone will not have seen; what came later is one.
    expect((await act('true')).stderr).not.toContain('not synced');
    write(far, 'later', '1\n');
    await until('it is known in time', async () =>
      (await act('true')).stderr.includes('⚠ 1 file not synced'),
    );
    await far.sshd.open();
    await far.ok(['reconnect']);
    await far.ok(['await', idOf(queued)]);
    expect(readThere('found')).toBe('1\n');
    expect(existsSync(join(far.zone, 'never'))).toBe(false);
  });
});
