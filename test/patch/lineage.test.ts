import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  keepLineage,
  lineageText,
  MAX_LINEAGE,
  MAX_LINEAGE_CHARS,
  readLineage,
} from '../../src/patch/lineage.ts';
import { makeGround } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
beforeEach(() => {
  ground = makeGround();
});
afterEach(() => ground.remove());

const idsOf = (count: number, bytes = 20): string[] =>
  Array.from({ length: count }, () => randomBytes(bytes).toString('hex'));

it.each([20, 32])('knows each commit that it was told, and no other, with ids of %i bytes', async (bytes) => {
  const [told, others] = [idsOf(500, bytes), idsOf(500, bytes)];
  await keepLineage(ground.dir, lineageText(told));
  const isLineage = await readLineage(ground.dir);
  expect(told.filter(isLineage)).toEqual(told);
  expect(others.filter(isLineage)).toEqual([]);
});

it('names no more than its bound, in writing and in reading', async () => {
  const ids = idsOf(MAX_LINEAGE + 1);
  const text = lineageText(ids);
  expect(text.length).toBeLessThanOrEqual(MAX_LINEAGE_CHARS);
  const over = Buffer.concat([
    Buffer.from(text, 'base64'),
    Buffer.from(ids.at(-1)?.slice(0, 16) ?? '', 'hex'),
  ]);
  await keepLineage(ground.dir, over.toString('base64'));
  const isLineage = await readLineage(ground.dir);
  expect(isLineage(ids.at(-2) ?? '')).toBe(true);
  expect(isLineage(ids.at(-1) ?? '')).toBe(false);
});

it('knows none where it was told nothing', async () => {
  const isLineage = await readLineage(join(ground.dir, 'absent'));
  expect(idsOf(3).some(isLineage)).toBe(false);
});
