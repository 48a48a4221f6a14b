import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** What a clone prints crosses the line only to somebody who looks: lines on trains are slow, and paid for. */

const PRINTED_BYTES = 5_000_000;
const FEW_BYTES = 150_000;

describe.skipIf(sshdMissing)(
  `a line that nobody looks through${sshdMissing ? ` (${sshdMissing})` : ''}`,
  () => {
    let far: FarWorld;
    let line: FaultLine;
    let printed = 0;
    beforeAll(async () => {
      far = await createFarWorld();
      line = await faultLine(far.sshd);
      await far.ok(['act', '--who', '@sh', '--await', 'true']);
    });
    afterAll(async () => {
      await far?.dispose();
      line?.close();
    });

    /** Bytes that came down the line while a clone printed, and the task that it printed for. */
    const whilePrinting = async (...words: string[]): Promise<{ bytes: number; id: string }> => {
      const before = line.carried.down;
      const script = `yes 0123456789 | head -c ${PRINTED_BYTES}; echo . >> printed`;
      const id = idOf(await far.ok(['act', '--who', 'mechanic', script]));
      printed += 1;
      if (words.length > 0) await far.ok([...words, id]);
      await until('its words', () => {
        const path = join(far.zone, 'printed');
        return existsSync(path) && readFileSync(path, 'utf8').length === 2 * printed;
      });
      await until('its end', async () => (await far.ok(['status'])).stdout.includes('○ mechanic.1'));
      return { bytes: line.carried.down - before, id };
    };

    it('carries states and no words, and tells prompts all the same', async () => {
      const { bytes } = await whilePrinting();
      expect(bytes).toBeLessThan(FEW_BYTES);
    });

    it('carries to a watch only what it shows', async () => {
      await far.ok(['act', '--who', 'reviewer@sh++', '--await', 'true']);
      const watches = [
        far.start(['watch', '--who', 'reviewer.1']),
        far.start(['watch', '--verbosity', 'quiet']),
      ];
      for (const watch of watches) await until('it watches', () => watch.stderr().includes('watching'));
      const { bytes, id } = await whilePrinting();
      expect(bytes).toBeLessThan(FEW_BYTES);
      await far.ok(['act', '--who', 'reviewer.1', 'echo seen']);
      await until('its words', () => watches[0]?.stdout().includes('seen') === true);
      await until('the end of the other', () => watches[1]?.stdout().includes('done') === true);
      expect(watches[0]?.stdout()).not.toContain('0123456789');
      const shown = await far.ok(['status', '--task', id]);
      expect(shown.stdout).toContain('done');
      for (const watch of watches) watch.signal('SIGINT');
      for (const watch of watches) await watch.ended;
    });

    it('carries the answer once to somebody who waits for it', async () => {
      // The longest answer that is kept is 4 MiB, the end of what was printed.
      const { bytes, id } = await whilePrinting('await');
      expect(bytes).toBeGreaterThan(4_000_000);
      expect(bytes).toBeLessThan(4_400_000);
      const before = line.carried.down;
      await far.ok(['log', '--task', id]);
      expect(line.carried.down - before).toBeGreaterThan(PRINTED_BYTES);
    });
  },
);
