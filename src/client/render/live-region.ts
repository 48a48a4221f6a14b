import type { CloneView } from '../../protocol/calls.ts';
import type { Style } from '../caller.ts';
import type { Wanted } from '../wanted.ts';
import { regionRows, type Size } from './live-screen.ts';
import { counted, cut, type ZoneStatus, zoneLines } from './status.ts';

/** The zones in the last rows of a view: as `khlone status` shows them, in as many rows as there are. */

type Picked = (clone: CloneView) => boolean;

/** A zone with some of its clones. That none of them is shown does not mean that there are none. */
const linesOf = (
  status: ZoneStatus,
  picked: Picked,
  style: Style,
  columns: number,
  name: 'short' | 'whole',
) => {
  const crew = status.view.crew.filter(picked);
  const lines = zoneLines({ ...status, view: { ...status.view, crew } }, style, columns, name);
  const isBare = crew.length === 0 && status.view.crew.length > 0 && lines.at(-1)?.endsWith('no clones yet');
  return isBare ? lines.slice(0, -1) : lines;
};

const isBusy = (clone: CloneView): boolean => clone.state !== 'idle' || clone.queued > 0;

/** Rows of at most half of the terminal; clones that have nothing to do are the first to be left out. */
export const regionOf = (
  statuses: readonly ZoneStatus[],
  who: Wanted,
  style: Style,
  size: Size,
): string[] => {
  const most = regionRows(size);
  const name = statuses.length === 1 ? 'short' : 'whole';
  const rows = (picked: Picked): string[] =>
    statuses.flatMap((status) => linesOf(status, picked, style, size.columns, name));
  const all = rows(who);
  if (all.length <= most) return all;
  const busy = rows((clone) => who(clone) && isBusy(clone));
  if (busy.length <= most) return busy;
  const more = `${style.utf8 ? '…' : '...'} ${counted(busy.length - most + 1, 'line')} more`;
  return [...busy.slice(0, most - 1), cut(more, size.columns, style)];
};
