import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createSurvey } from '../../src/server/survey.ts';

/** What a machine can do is found once, and what could not be found out is looked for again. */

const dir = mkdtempSync(join(tmpdir(), 'khlone-survey-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('a view that could not be tried, as on a full disk, is tried again by the next task', async () => {
  const tempDir = join(dir, 'later');
  const survey = createSurvey(tempDir);
  await expect(survey.view()).rejects.toMatchObject({ code: 'ENOENT' });
  mkdirSync(tempDir, { mode: 0o700 });
  const view = await survey.view();
  // Kept: whatever this machine allows, it is the same one.
  rmSync(tempDir, { recursive: true });
  expect(await survey.view()).toBe(view);
}, 60_000);
