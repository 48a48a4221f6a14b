import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { viewPatches } from '../../../src/client/patches/view.ts';
import { put } from '../../patch/ground.ts';
import { makeTwoSides, type TwoSides } from './two-sides.ts';

/** What is told of both sides after a pull that was killed: that is finished first. */

const PROGRAM = join(import.meta.dirname, 'step-program.ts');
const FILES = Array.from({ length: 12 }, (_, n) => `file-${n}`);

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides((root) => {
    for (const name of FILES) put(root, name, 'as it was\n');
  });
});
afterEach(() => sides.remove());

const pullKilled = (fault: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const args = [PROGRAM, sides.near, sides.far, sides.patchPlace.zonesDir, 'pull'];
    const env = { ...process.env, KHLONE_FAULT: fault };
    execFile(process.execPath, args, { env, timeout: 60_000 }, (error, _, stderr) => {
      if (error?.signal === 'SIGKILL') resolve();
      else reject(new Error(`it was not killed: ${stderr}`));
    });
  });

it.each(['with a link', 'off line'])('tells nothing of it as an edit, %s', async (how) => {
  for (const name of FILES) put(sides.far, name, 'of the zone\n');
  await pullKilled('apply.journal:1');
  const view = await viewPatches(sides.place, how === 'off line' ? undefined : sides.link);
  expect(view).toMatchObject({ toSend: 0, toPull: 0, conflicts: [] });
  for (const name of FILES) expect(readFileSync(join(sides.near, name), 'utf8')).toBe('of the zone\n');
});
