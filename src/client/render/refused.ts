import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import type { Refused } from '../outbox.ts';
import { mark } from './receipt.ts';

/** What a host refused of what had waited here, in one line. Its words and its advice are the host's. */
export const refusedWords = ({ message, hint }: Pick<Refused, 'message' | 'hint'>, style: Style): string =>
  `${oneLine(message, 300)}${hint ? ` ${mark(style, 'next')} ${oneLine(hint, 300)}` : ''}`;

/** A refused task by its name and by what it was to do; `khlone await` of it has the advice. */
export const refusedTask = ({ id, say, message }: Refused): string =>
  `${id} (${oneLine(say, 60)}) was refused: ${oneLine(message, 160)}`;
