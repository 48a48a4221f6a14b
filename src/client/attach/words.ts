import { oneLine } from '../../protocol/sanitize.ts';
import type { Lines } from './look.ts';
import type { AttachOrder } from './order.ts';
import type { Ended } from './visit.ts';

/** What an attach says: over the picture, and in one line after it. */

const HELP =
  ' ~. leaves   ~^Z suspends   ~~ types ~   Ctrl-D leaves a view, in a shell it ends the shell   Ctrl-B [ scrolls ';
/** For terminals in which the other would be cut off. */
const SHORT_HELP = ' ~. leaves ~^Z suspends Ctrl-B [ scrolls ';

export const linesFor = ({ host, sight, utf8 }: AttachOrder): Lines => ({
  reconnecting: (seconds) => {
    const since = seconds > 0 ? ` ${seconds} s` : '';
    return ` reconnecting to ${host === 'local' ? 'khlone' : oneLine(host, 100)}${utf8 ? '…' : '...'}${since} (~. leaves) `;
  },
  anywhere: sight.kind === 'view',
  help: (columns) => (columns < HELP.length ? SHORT_HELP : HELP),
});

export const summaryOf = ({ name, sight, utf8 }: AttachOrder, outcome: Ended | 'here'): string => {
  const [ok, attention] = utf8 ? ['✓', '⚠'] : ['ok', '!'];
  const parting = outcome === 'here' ? 'left' : outcome.parting;
  const goesOn = sight.kind === 'view' ? '; it goes on' : '';
  if (parting === 'exited') return `${ok} ${name} ended`;
  if (parting === 'detached') return `${ok} detached from ${name} by khlone crew detach${goesOn}`;
  if (parting === 'gone') return `${attention} ${name} is no longer there`;
  if (parting === 'lost') return `${attention} tmux ended, and ${name} with it`;
  return `${ok} detached from ${name}${goesOn}`;
};
