import type { KhloneError } from '../../protocol/error.ts';
import { jsonLine, oneLine } from '../../protocol/sanitize.ts';
import { beforeDashes, type Caller, styleOf } from '../caller.ts';
import { AWAY_HINT } from '../link/away.ts';
import { mark } from './receipt.ts';

const LINE_CHARS = 2_000;

/** What to do about it. A line that broke in the middle of something knows none, and somebody tries it again. */
export const nextOf = ({ code, hint }: KhloneError): string | undefined =>
  hint ?? (code === 'unreachable' ? AWAY_HINT : undefined);

/** One line that says what, one that says what to do; with --json one object on stdout. */
export const tellError = (caller: Caller, error: KhloneError): void => {
  const next = nextOf(error);
  if (beforeDashes(caller.argv).includes('--json')) {
    caller.out(`${jsonLine({ code: error.code, message: error.message, hint: next })}\n`);
    return;
  }
  const style = styleOf(caller, 'stderr');
  const lines = error.message.split('\n').map((line) => oneLine(line, LINE_CHARS));
  const hint = next ? `  ${mark(style, 'next')} ${oneLine(next, LINE_CHARS)}\n` : '';
  caller.err(`${mark(style, 'failed')} ${lines.join('\n  ')}\n${hint}`);
};
