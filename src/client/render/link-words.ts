import { asKhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import type { Heard } from '../follow-journal.ts';
import { mark } from './receipt.ts';
import { counted } from './status.ts';

/** What happened to a link, or to a journal, while somebody follows it; nothing for all else. */
export const linkWords = (heard: Heard, host: string, style: Style): string | undefined => {
  const name = host === 'local' ? 'khlone-server' : oneLine(host, 100);
  if (heard.type === 'back') return `${mark(style, 'done')} reconnected to ${name}`;
  if (heard.type === 'gap') {
    const missing = Math.max(0, heard.to - heard.from + 1);
    return `${mark(style, 'attention')} ${counted(missing, 'event')} gone: pruned before this reader came`;
  }
  if (heard.type !== 'lost') return undefined;
  const why = asKhloneError(heard.why);
  const next = why.code === 'unreachable' || !why.hint ? '' : ` (${oneLine(why.hint, 200)})`;
  return `${mark(style, 'attention')} reconnecting to ${name}: ${oneLine(why.message, 300)}${next}`;
};
