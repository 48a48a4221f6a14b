import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { benchDispatch } from './dispatch.ts';
import { benchEnqueue } from './enqueue.ts';
import { benchLink } from './link.ts';
import { benchPrompt } from './prompt.ts';
import type { Row } from './row.ts';

/** `npm run bench`: every figure beside its anchor, taken in this one run. Shared machines are noisy: read the ratios. */

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
const link = await benchLink();
const rows = [...(await benchDispatch()), ...(await benchEnqueue()), ...link.rows, ...(await benchPrompt())];
console.log(table(rows));
writeFileSync(
  RESULTS,
  `${JSON.stringify({ atMs: Date.now(), node: process.version, rows }, undefined, 1)}\n`,
);
console.log(`\nkept in ${RESULTS}`);
process.exit(0);
