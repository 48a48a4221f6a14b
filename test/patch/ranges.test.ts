import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseHunks, regionsByGit, regionsOf } from '../../src/patch/hunks.ts';
import { markedText, markersLeft } from '../../src/patch/markers.ts';
import type { Stage } from '../../src/patch/merge-said.ts';
import { type Region, rangesOf, rangeText, regionsInThread } from '../../src/patch/ranges.ts';
import { lines, makeMergeGround } from './merge-ground.ts';

let ground: Awaited<ReturnType<typeof makeMergeGround>>;
beforeAll(async () => {
  ground = await makeMergeGround();
});
afterAll(() => ground.remove());

const stageOf = async (base: string | undefined, local: string, remote: string): Promise<Stage> => {
  const entry = async (text: string) => ({ mode: '100644', oid: await ground.blob(text) });
  return {
    ...(base !== undefined && { base: await entry(base) }),
    local: await entry(local),
    remote: await entry(remote),
  };
};
const ranges = async (...texts: Parameters<typeof stageOf>): Promise<Region[] | undefined> =>
  rangesOf(ground.shadow, await stageOf(...texts));
const byGit = async (...texts: Parameters<typeof stageOf>): Promise<Region[]> => {
  const { base, local, remote } = await stageOf(...texts);
  return regionsByGit(ground.shadow, base?.oid ?? '', local?.oid ?? '', remote?.oid ?? '');
};
const spoken = (regions: Region[] | undefined) =>
  regions?.map(({ local, remote }) => `${rangeText(local)} / ${rangeText(remote)}`);

/** A loaded machine may take long for little: where the answer counts and not the time. */
const PATIENT_MS = 60_000;

const BASE = lines(1, 60);
// Three lines more above; then lines 42 to 47 here, and five more of them there.
const LOCAL = lines(1, 60, { 2: 'a\nb\nc\nd', 42: 'L', 43: 'L', 44: 'L', 45: 'L', 46: 'L', 47: 'L' });
const REMOTE = lines(1, 60, { 42: 'R\nR\nR\nR\nR', 43: 'R', 44: 'R', 45: 'R', 46: 'R', 47: 'R' });

describe('the lines of a conflict', () => {
  it('are told for each side in its own numbers, by the thread and by git alike', async () => {
    const expected = ['lines 45-50 / lines 42-51'];
    expect(spoken(await ranges(BASE, LOCAL, REMOTE))).toEqual(expected);
    expect(spoken(await byGit(BASE, LOCAL, REMOTE))).toEqual(expected);
  });

  it('are several ranges, and none where both sides made the same edit or only one did', async () => {
    const local = lines(1, 60, { 5: 'L', 20: 'same', 30: 'only here', 50: 'L' });
    const remote = lines(1, 60, { 5: 'R', 20: 'same', 50: 'R\nR', 58: 'only there' });
    const expected = ['line 5 / line 5', 'line 50 / lines 50-51'];
    expect(spoken(await ranges(BASE, local, remote))).toEqual(expected);
    // Above what the thread takes.
    const tail = lines(101, 2_200);
    expect(spoken(await ranges(BASE + tail, local + tail, remote + tail))).toEqual(expected);
  });

  it('name a side that has none', async () => {
    const remote = BASE.replace('line 30\n', '');
    const local = lines(1, 60, { 30: 'L' });
    expect(spoken(await ranges(BASE, local, remote))).toEqual(['line 30 / nothing after line 29']);
    expect(spoken(await byGit(BASE, local, remote))).toEqual(['line 30 / nothing after line 29']);
    expect(rangeText({ from: 1, to: 0 })).toBe('nothing');
  });

  it('are whole files where there was none before', async () => {
    expect(spoken(await ranges(undefined, 'a\nb\n', 'c\n'))).toEqual(['lines 1-2 / line 1']);
  });

  it('are not told of what has none', async () => {
    expect(await ranges('a\n', 'a\0b', 'b\n')).toBeUndefined();
    const { local, remote, base } = await stageOf('a', 'b', 'c');
    expect(await rangesOf(ground.shadow, { ...(base && { base }), ...(local && { local }) })).toBeUndefined();
    const link = { mode: '120000', oid: local?.oid ?? '' };
    expect(await rangesOf(ground.shadow, { local: link, ...(remote && { remote }) })).toBeUndefined();
  });

  it('come from git where a file is long, and without a freeze', async () => {
    const long = Array.from({ length: 16_000 }, (_, i) => `same ${i % 7}\n`).join('');
    const local = `${long.slice(0, 50_000)}L\n${long.slice(50_000)}`;
    const remote = `${long.slice(0, 50_000)}R\n${long.slice(50_000)}`;
    const found = await ranges(long, local, remote);
    expect(found).toHaveLength(1);
  });

  it('are found in a bundle too, where the thread is text', async () => {
    const options = { bundle: true, platform: 'node', write: false, outdir: ground.dir } as const;
    const worker = await build({ ...options, entryPoints: ['src/patch/ranges-worker.ts'], format: 'cjs' });
    const text = JSON.stringify(worker.outputFiles[0]?.text);
    const define = { __KHLONE_RANGES__: text };
    const whole = await build({ ...options, entryPoints: ['src/patch/ranges.ts'], format: 'esm', define });
    const path = join(ground.dir, 'ranges.mjs');
    writeFileSync(path, whole.outputFiles[0]?.contents ?? '');
    const bundled = (await import(path)) as { regionsInThread: typeof regionsInThread };
    const question = { base: ['a', 'b'], local: ['a', 'L'], remote: ['a', 'R'] };
    const said = await bundled.regionsInThread(question, PATIENT_MS);
    expect(said).toEqual([{ local: { from: 2, to: 2 }, remote: { from: 2, to: 2 } }]);
    expect(await regionsInThread(question, PATIENT_MS)).toEqual(said);
  });

  it('are heard where all that the thread says waits for a busy moment to end', async () => {
    const question = { base: ['a'], local: ['L'], remote: ['R'] };
    const asked = regionsInThread(question, PATIENT_MS);
    const inBetween = new Int32Array(new SharedArrayBuffer(4));
    Atomics.wait(inBetween, 0, 0, 1_000);
    expect(await asked).toHaveLength(1);
  });

  it('end the thread that takes too long for them', async () => {
    const hard = Array.from({ length: 2_000 }, (_, i) => `${i % 5}`);
    const other = (n: number) => hard.map((line, i) => (i % n === 0 ? 'x' : line));
    const startedAt = performance.now();
    const said = await regionsInThread({ base: hard, local: other(37), remote: other(41) }, 1);
    expect(said).toBeUndefined();
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  it('lie within each side, in order, for any three texts', async () => {
    const text = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 30 });
    const diff = (from: string[], to: string[]) => {
      // A plain edit script: all between the common head and tail.
      let head = 0;
      while (head < from.length && head < to.length && from[head] === to[head]) head += 1;
      let tail = 0;
      while (tail < Math.min(from.length, to.length) - head && from.at(-1 - tail) === to.at(-1 - tail))
        tail += 1;
      const [count, newCount] = [from.length - head - tail, to.length - head - tail];
      return count + newCount === 0 ? [] : [{ from: head, count, newFrom: head, newCount }];
    };
    fc.assert(
      fc.property(text, text, text, (base, local, remote) => {
        for (const region of regionsOf(diff(base, local), diff(base, remote))) {
          expect(region.local.from).toBeGreaterThanOrEqual(1);
          expect(region.local.to).toBeLessThanOrEqual(local.length);
          expect(region.local.to).toBeGreaterThanOrEqual(region.local.from - 1);
          expect(region.remote.to).toBeLessThanOrEqual(remote.length);
          expect(region.remote.to).toBeGreaterThanOrEqual(region.remote.from - 1);
        }
      }),
      { numRuns: 300 },
    );
    expect(parseHunks('@@ -0,0 +1,2 @@\n+@@ -9 +9 @@\n')).toEqual([
      { from: 0, count: 0, newFrom: 0, newCount: 2 },
    ]);
  });
});

describe('the text to resolve', () => {
  it('has local, base and remote between markers, and is resolved when no marker is left', async () => {
    const { text, markerSize } = await markedText(ground.shadow, await stageOf(BASE, LOCAL, REMOTE));
    const said = text.toString();
    expect(markerSize).toBe(7);
    for (const marker of ['<<<<<<< local\n', '||||||| base\n', '\n=======\n', '>>>>>>> remote\n']) {
      expect(said).toContain(marker);
    }
    expect(markersLeft(text, 7)).toHaveLength(4);
    const kept = said.replace(/<<<<<<< local\n([^<]*)\|{7}[^>]*>{7} remote\n/u, '$1');
    expect(markersLeft(Buffer.from(kept), 7)).toEqual([]);
    expect(kept).toBe(LOCAL);
    expect(markersLeft(Buffer.from(said.replaceAll('\n', '\r\n')), 7)).toHaveLength(4);
  });

  it('has longer markers where a file has lines that look like them', async () => {
    const page = (middle: string) => `Title\n=======\n\n${middle}\n\n>>>>>>>>> quoted\n`;
    const stage = await stageOf(page('base'), page('mine'), page('theirs'));
    const { text, markerSize } = await markedText(ground.shadow, stage);
    expect(markerSize).toBe(10);
    expect(text.toString()).toContain(`${'<'.repeat(10)} local\nmine\n`);
    expect(markersLeft(text, markerSize)).toHaveLength(4);
    expect(markersLeft(Buffer.from(page('mine')), markerSize)).toEqual([]);
  });

  it('works for two new files, and refuses what has no lines', async () => {
    const { text } = await markedText(ground.shadow, await stageOf(undefined, 'a\n', 'b\n'));
    expect(text.toString()).toContain('<<<<<<< local\na\n');
    const { local } = await stageOf('a', 'b', 'c');
    await expect(markedText(ground.shadow, local ? { local } : {})).rejects.toMatchObject({
      code: 'conflict',
    });
    const binary = await stageOf('a\n', 'a\0\n', 'b\n');
    await expect(markedText(ground.shadow, binary)).rejects.toMatchObject({ code: 'conflict' });
  });
});
