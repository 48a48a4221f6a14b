import { KhloneError } from '../protocol/error.ts';
import { parseDurationMs } from './measure.ts';

/** A duration of a flag in ms. Throws `usage`. */
export const durationMs = (text: string, flag: string): number => {
  const ms = parseDurationMs(text);
  if (ms !== undefined && ms > 0 && ms <= 2_147_483_647) return ms;
  throw new KhloneError('usage', `${flag} ${text} is not a duration`, 'such as 90s, 10m or 4h');
};

/** How long ago, as people say it: `5m`, `2h`, `3d`. */
export const ago = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
};
