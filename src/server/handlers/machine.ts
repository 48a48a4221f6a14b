import { hostname } from 'node:os';
import type { AnswerOf } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { PROTOCOL } from '../../protocol/limits.ts';
import type { Environment } from '../prepare.ts';
import type { Store } from '../store/store.ts';
import { route } from './route.ts';

/** Calls about the server itself: who it is, what its machine can do, and its end. */

export type MachineDeps = {
  store: Store;
  build: string;
  boot: string;
  home: string;
  survey(environment: Environment): Promise<AnswerOf<'brain.probe'>>;
  /** Begins the orderly end; the answer leaves first. */
  stop(keep: boolean): Promise<number>;
};

/** The highest version that both speak. */
export const agree = (theirs: readonly [number, number], ours: { min: number; max: number }): number => {
  const version = Math.min(theirs[1], ours.max);
  if (version >= Math.max(theirs[0], ours.min)) return version;
  throw new KhloneError(
    'version',
    `the client speaks protocol ${theirs[0]} to ${theirs[1]}, this server ${ours.min} to ${ours.max}`,
    theirs[1] < ours.min ? 'upgrade khlone where you work' : 'khlone stop on that machine, then try again',
  );
};

export const machineRoutes = (deps: MachineDeps) => [
  route('hello', ({ params }) => ({
    proto: agree(params.proto, PROTOCOL),
    build: deps.build,
    uuid: deps.store.uuid,
    boot: deps.boot,
    home: deps.home,
    host: hostname(),
  })),
  route('brain.probe', ({ params }) => deps.survey(params.environment)),
  route('stop', async ({ params }) => ({ ended: await deps.stop(params.keep) })),
];
