import { describe, expect, it } from 'vitest';
import { parseDurationMs, parseSizeBytes } from '../../src/client/measure.ts';
import { nearest } from '../../src/client/nearest.ts';

describe('amounts and near words', () => {
  it('reads durations and sizes with units only', () => {
    expect(['4h', '1h30m', '1.5h', '90d', '250ms'].map(parseDurationMs)).toEqual([
      14_400_000, 5_400_000, 5_400_000, 7_776_000_000, 250,
    ]);
    for (const text of ['', '4', 'h', '0s', '4 h', '-1h', '1e3s', '99999d', '4hh', '٤h'])
      expect(parseDurationMs(text)).toBeUndefined();
    expect(['10MB', '512 KiB', '1.5gb', '0B'].map(parseSizeBytes)).toEqual([10e6, 524_288, 1.5e9, 0]);
    for (const text of ['', '10', 'MB', '10 mbit', '-1B', '1e9B', '9999999TB'])
      expect(parseSizeBytes(text)).toBeUndefined();
  });

  it('guesses slips and nothing far-fetched', () => {
    const known = ['mode', 'host', 'max_clones', 'on_end'];
    expect(nearest('moed', known)).toBe('mode');
    expect(nearest('maxClones', known)).toBe('max_clones');
    expect(nearest('max-clones', known)).toBe('max_clones');
    expect(nearest('banana', known)).toBeUndefined();
    expect(nearest('x'.repeat(100_000), known)).toBeUndefined();
  });
});
