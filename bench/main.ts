import { fork } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from './row.ts';

/**
 * `npm run bench`: every figure beside its anchor, taken in this one run. Shared machines are noisy: read the ratios.
 * `npm run bench -- link patch` takes only these groups; `--long` takes sizes of a night.
 */

/** Each in a process of its own: what one leaves in memory makes every fork of the next one slower. */
const GROUPS: Readonly<Record<string, () => Promise<Row[]>>> = {
  dispatch: async () => (await import('./dispatch.ts')).benchDispatch(),
  words: async () => (await import('./words.ts')).benchWords(),
  enqueue: async () => (await import('./enqueue.ts')).benchEnqueue(),
  restart: async () => (await import('./restart.ts')).benchRestart(),
  load: async () => (await import('./load.ts')).benchLoad(),
  idle: async () => (await import('./idle.ts')).benchIdle(),
  link: async () => (await (await import('./link.ts')).benchLink()).rows,
  attach: async () => (await import('./attach.ts')).benchAttach(),
  recover: async () => (await import('./recover.ts')).benchRecover(),
  patch: async () => (await import('./patch.ts')).benchPatch(),
  delta: async () => (await import('./delta.ts')).benchDelta(),
  prompt: async () => (await import('./prompt.ts')).benchPrompt(),
};

/** Names the group that this process is for. */
const ALONE = 'BENCH_GROUP';
const RESULTS = join(import.meta.dirname, 'latest.json');

const cells = (row: Row): string[] => [
  row.ok === undefined ? ' ' : row.ok ? '✓' : '✗',
  row.name,
  `${row.value >= 100 ? Math.round(row.value).toLocaleString('en-US') : row.value.toFixed(2)} ${row.unit}`,
  row.ratio === undefined ? '' : `${row.ratio.toFixed(3)}×`,
  row.anchor,
  row.target,
];

const table = (rows: readonly Row[]): string => {
  const lines = [['', 'what', 'figure', 'ratio', 'against', 'reach'], ...rows.map(cells)];
  const widths = (lines[0] ?? []).map((_, i) =>
    Math.max(...lines.map((line) => [...(line[i] ?? '')].length)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};

if (!existsSync(join(import.meta.dirname, '../dist/command.cjs'))) {
  console.error('✗ nothing is built\n  ↳ npm run build');
  process.exit(2);
}
const keep = (rows: readonly Row[]): void => {
  const kept = { atMs: Date.now(), node: process.version, rows };
  writeFileSync(RESULTS, `${JSON.stringify(kept, undefined, 1)}\n`);
};

const words = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = words.filter((word) => !Object.hasOwn(GROUPS, word));
if (unknown.length > 0) {
  console.error(`✗ no group named ${unknown.join(', ')}\n  ↳ groups: ${Object.keys(GROUPS).join(', ')}`);
  process.exit(2);
}
const flags = process.argv.slice(2).filter((word) => word.startsWith('--'));

const rowsOf = (name: string): Promise<Row[]> =>
  new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, flags, { env: { ...process.env, [ALONE]: name } });
    child.once('message', (rows) => resolve(rows as Row[]));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`its process ended with ${code}`)));
  });

async function runAll(): Promise<never> {
  const rows: Row[] = [];
  let failed = 0;
  for (const name of Object.keys(GROUPS)) {
    if (words.length > 0 && !words.includes(name)) continue;
    const begun = performance.now();
    try {
      rows.push(...(await rowsOf(name)));
    } catch (thrown) {
      failed += 1;
      console.error(`✗ ${name} has no figures:`, thrown);
    }
    // After each group: a run that is broken off keeps what it had.
    if (words.length === 0) keep(rows);
    console.error(`${name}: ${((performance.now() - begun) / 1000).toFixed(0)} s`);
  }
  console.log(table(rows));
  if (words.length === 0) console.log(`\nkept in ${RESULTS}`);
  process.exit(failed > 0 ? 1 : 0);
}

const alone = process.env[ALONE];
if (alone !== undefined) {
  const rows = await GROUPS[alone]?.();
  process.send?.(rows, () => process.exit(0));
} else await runAll();
