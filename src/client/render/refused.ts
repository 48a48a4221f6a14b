import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import type { Refused } from '../outbox.ts';
import { mark } from './receipt.ts';

/** What a host refused of what had waited here, in one line. Its words and its advice are the host's. */
export const refusedWords = ({ message, hint }: Pick<Refused, 'message' | 'hint'>, style: Style): string =>
  `${oneLine(message, 300)}${hint ? ` ${mark(style, 'next')} ${oneLine(hint, 300)}` : ''}`;

/** The same of a task, by its name and by what it was to do. */
export const refusedTask = ({ id, say, ...refused }: Refused, style: Style): string =>
  `${id} (${oneLine(say, 60)}) was refused: ${refusedWords(refused, style)}`;
