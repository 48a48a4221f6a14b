import type { KhloneError } from '../../protocol/error.ts';
import { jsonLine, oneLine } from '../../protocol/sanitize.ts';
import { type Caller, styleOf } from '../caller.ts';
import { mark } from './receipt.ts';

const LINE_CHARS = 2_000;

/** One line that says what, one that says what to do; with --json one object on stdout. */
export const tellError = (caller: Caller, error: KhloneError): void => {
  if (caller.argv.includes('--json')) {
    caller.out(`${jsonLine({ code: error.code, message: error.message, hint: error.hint })}\n`);
    return;
  }
  const style = styleOf(caller, 'stderr');
  const lines = error.message.split('\n').map((line) => oneLine(line, LINE_CHARS));
  const hint = error.hint ? `  ${mark(style, 'next')} ${oneLine(error.hint, LINE_CHARS)}\n` : '';
  caller.err(`${mark(style, 'failed')} ${lines.join('\n  ')}\n${hint}`);
};
