import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** A pull that ends in the middle, by the person or by the line. */

const SLOW_BYTES_A_SECOND = 1_000_000;
const ANSWER_MS = 1_000;

describe.skipIf(sshdMissing)(`pulls that are cut${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let line: FaultLine;

  beforeAll(async () => {
    far = await createFarWorld();
    line = await faultLine(far.sshd);
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(async () => {
    line?.close();
    await far?.dispose();
  });

  /** A pull of a file that takes its time, once a part of it came. */
  const pulling = async (name: string) => {
    writeFileSync(join(far.zone, name), randomBytes(4_000_000));
    line.rate.down = SLOW_BYTES_A_SECOND;
    const before = line.carried.down;
    const running = far.start(['pull']);
    await until('a part of it came', () => line.carried.down - before > 500_000);
    return running;
  };

  it('writes nothing for a person who left in the middle, and tells all the next time', async () => {
    writeFileSync(join(far.zone, 'package.json'), '{"scripts":{"postinstall":"evil"}}\n');
    const running = await pulling('large');
    running.signal('SIGINT');
    const { code, stderr } = await running.ended;
    expect([code, stderr]).toEqual([130, '✗ interrupted: nothing was pulled\n']);
    line.heal();
    const said = await far.says(['pull']);
    expect(said).toContain('look at package.json: ');
    expect(said).toContain('✓ 2 files pulled\n');
  });

  it('says that it goes on for a person who left when it had begun to write, and is over then', async () => {
    writeFileSync(join(far.zone, 'written'), 'theirs\n');
    line.delayMs = ANSWER_MS / 2;
    const running = far.start(['pull']);
    // What is told to the zone behind that is not answered yet.
    await until('it is written', () => existsSync(join(far.repo, 'written')));
    running.signal('SIGINT');
    const { code, stderr } = await running.ended;
    line.heal();
    expect([code, stderr]).toEqual([130, '⚠ the pull goes on: khlone status shows what is left of it\n']);
    expect(await far.says(['pull'])).toBe('! ✓ nothing to pull\n');
  });

  it('says what to do where the line broke, and brings the file the next time', async () => {
    const running = await pulling('larger');
    line.reset();
    const { code, stderr } = await running.ended;
    line.heal();
    expect([code, stderr]).toEqual([
      4,
      '✗ the connection ended\n  ↳ it is tried again by itself, and at once by khlone reconnect\n',
    ]);
    expect(existsSync(join(far.repo, 'larger'))).toBe(false);
    expect(await far.says(['pull'])).toBe('! ✓ 1 file pulled\n');
  });
});
