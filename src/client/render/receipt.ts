import { parseZone } from '../../protocol/address.ts';
import type { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import type { Receipt } from '../dispatch.ts';
import type { Place } from '../place.ts';

/** The lines after a dispatch: what was made, where the task went, what is worth knowing. */

export const MARKS = {
  done: ['✓', 'ok'],
  failed: ['✗', 'x'],
  attention: ['⚠', '!'],
  active: ['●', '*'],
  idle: ['○', 'o'],
  queued: ['◌', '.'],
  waiting: ['◐', '%'],
  unknown: ['?', '?'],
  to: ['→', '->'],
  /** Before the next step. */
  next: ['↳', '->'],
} as const;

export const mark = (style: Style, name: keyof typeof MARKS): string => MARKS[name][style.utf8 ? 0 : 1];

/** As it was typed, if it was; for somebody who stands in the zone its branch is enough. */
export const addressOf = (place: Pick<Place, 'binding'>, typed: string | undefined): string => {
  if (typed === undefined) return `@${oneLine(place.binding.branch, 120)}`;
  return oneLine('path' in parseZone(typed) ? place.binding.address : typed, 300);
};

const troubleOf = ({ message, hint }: KhloneError, style: Style): string[] => [
  `  ${oneLine(message, 500)}`,
  ...(hint ? [`  ${style.utf8 ? '↳' : '->'} ${oneLine(hint, 500)}`] : []),
];

export const receiptLines = (
  place: Place,
  receipt: Receipt,
  given: { who: string | undefined; zone: string | undefined; prioritize: boolean; style: Style },
): string[] => {
  const { style } = given;
  const ok = mark(style, 'done');
  const to = mark(style, 'to');
  const address = addressOf(place, given.zone);
  const flags = given.prioritize ? ' [priority]' : '';
  if (receipt.type === 'queued-here') {
    const who = oneLine(given.who ?? 'clone.0', 100);
    const host = oneLine(place.binding.host, 200);
    const line = `${mark(style, 'attention')} ${receipt.id} ${to} ${who} (${address})${flags} [queued here: ${host} ${receipt.why.code === 'interrupted' ? 'had not answered' : 'unreachable'}]`;
    // A host that is there and whose server cannot be set up or started is mended by a person, who has to know.
    return ['remote-setup', 'start-failed'].includes(receipt.why.code)
      ? [line, ...troubleOf(receipt.why, style)]
      : [line];
  }
  const { answer } = receipt;
  const clone = answer.task.clone;
  const lines: string[] = [];
  if (answer.zoneMade) lines.push(`${ok} init ${address} ${to} ${clone}`);
  else if (answer.enrolled) lines.push(`${ok} enrolled ${clone}`);
  lines.push(`${ok} ${receipt.id} ${to} ${clone} (${address})${flags}`);
  if (answer.needsCode) lines.push(`${mark(style, 'queued')} preparing zone`);
  for (const note of answer.notes) lines.push(`  ${oneLine(note, 300)}`);
  return lines;
};
