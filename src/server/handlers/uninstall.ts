import type { AnswerOf } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { liveTasks } from '../store/tasks.ts';
import { crewRows, type ZoneRow, zoneRows } from '../store/zones.ts';
import { route } from './route.ts';
import { deleteZone, type ZoneDeps } from './zones.ts';

/** The end of khlone on this machine: every zone as `zone del` would, then the server and all that it made. */

export type UninstallDeps = ZoneDeps & {
  /** Ends clones, tmux and this server; what the server made goes with it. The answer leaves first. */
  leave(): Promise<void>;
};

const busyIn = ({ hall: { store } }: UninstallDeps, { id }: ZoneRow): boolean =>
  crewRows(store, id).some((clone) => liveTasks(store, clone.id).length > 0);

const onUninstall = async (deps: UninstallDeps, force: boolean): Promise<AnswerOf<'uninstall'>> => {
  const zones = zoneRows(deps.hall.store);
  const busy = zones.filter((zone) => busyIn(deps, zone)).map(({ address }) => address);
  if (busy.length > 0 && !force) {
    const what = `${busy.slice(0, 5).join(', ')}${busy.length > 5 ? ` and ${busy.length - 5} more` : ''}`;
    throw new KhloneError(
      'conflict',
      `tasks did not end in ${what}`,
      'khlone queue, or --force cancels them',
    );
  }
  const kept: string[] = [];
  // One that holds work which is only there ends this; those before it held none, so nothing is lost.
  for (const { id } of zones) {
    const { kept: saved } = await deleteZone(deps, id, force);
    if (saved) kept.push(saved);
  }
  await deps.leave();
  return { kept };
};

export const uninstallRoutes = (deps: UninstallDeps) => [
  route('uninstall', ({ params }) => onUninstall(deps, params.force)),
];
