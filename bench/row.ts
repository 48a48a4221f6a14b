/** One line of the table: a figure, what it is held against, and what it should reach. */
export type Row = {
  name: string;
  value: number;
  unit: string;
  /** What was measured beside it in the same run. */
  anchor: string;
  ratio?: number;
  /** The bar, as a person reads it. */
  target: string;
  ok?: boolean;
};

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[half] ?? 0) : ((sorted[half - 1] ?? 0) + (sorted[half] ?? 0)) / 2;
};

/** The value that this share of all values does not exceed. */
export const percentile = (values: readonly number[], share: number): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
};

/** A row held against an anchor: good when the ratio is at most `reach`. */
export const against = (
  name: string,
  value: number,
  unit: string,
  anchor: { name: string; value: number },
  reach: number,
): Row => {
  const ratio = value / anchor.value;
  const named = `${anchor.name} ${anchor.value.toFixed(anchor.value < 10 ? 2 : 1)} ${unit}`;
  return { name, value, unit, anchor: named, ratio, target: `≤ ${reach}×`, ok: ratio <= reach };
};

/** `npm run bench -- --long`: sizes of a night. */
export const LONG = process.argv.includes('--long');
