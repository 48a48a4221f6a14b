/** The two kinds of amounts that people write: durations (`4h`, `1h30m`) and sizes (`10MB`). */

const MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** A person's "MB" is a million bytes, as on every disk's label; "MiB" is 1024². */
const BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
};

/** Ten years: longer is a slip of the pen, and far below what a number can hold. */
const MAX_DURATION_MS = 3650 * 86_400_000;
const MAX_SIZE_BYTES = 1e15;

/** Milliseconds of `90d`, `1h30m`, `1.5h`; undefined for anything else, also zero and more than ten years. */
export const parseDurationMs = (text: string): number | undefined => {
  if (!/^(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h|d|w))+$/u.test(text)) return undefined;
  const parts = text.matchAll(/([\d.]+)([a-z]+)/gu);
  const total = [...parts].reduce((sum, [, amount, unit]) => sum + Number(amount) * (MS[unit ?? ''] ?? 0), 0);
  const ms = Math.round(total);
  return ms >= 1 && ms <= MAX_DURATION_MS ? ms : undefined;
};

/** Bytes of `10MB`, `512 KiB`, `1.5GB`; undefined for anything else. */
export const parseSizeBytes = (text: string): number | undefined => {
  const [, amount, unit] = /^(\d{1,9}(?:\.\d{1,3})?) ?([KMGT]i?B|B)$/iu.exec(text) ?? [];
  if (amount === undefined || unit === undefined) return undefined;
  const bytes = Math.round(Number(amount) * (BYTES[unit.toUpperCase()] ?? 0));
  return bytes <= MAX_SIZE_BYTES ? bytes : undefined;
};
