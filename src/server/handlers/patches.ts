import { KhloneError } from '../../protocol/error.ts';
import { createTurns } from '../../protocol/turns.ts';
import type { PatchPlace } from '../patch-ground.ts';
import { zoneRow } from '../store/zones.ts';
import { commits, common } from '../zone-commits.ts';
import { agree, look, type Taken, take } from '../zone-patches.ts';
import { attended } from './attended.ts';
import { route } from './route.ts';
import type { TaskDeps } from './tasks.ts';

/** Patches between people and a zone: one step at a time for each zone. */

/** Where a zone's worktree is; the person's own one has nothing to exchange. */
const placeOf = ({ hall, zonesDir }: TaskDeps, id: string): PatchPlace => {
  const zone = zoneRow(hall.store, id);
  if (!zone)
    throw new KhloneError('not-found', 'that zone is not known on its machine', 'khlone init makes it');
  if (zone.state === 'preparing')
    throw new KhloneError('conflict', 'the zone has no code yet', 'khlone init brings it');
  return { zone: id, path: zone.path, zonesDir };
};

async function* json(value: unknown): AsyncGenerator<Uint8Array> {
  yield Buffer.from(JSON.stringify(value));
}

export const patchRoutes = (deps: TaskDeps) => {
  const inTurn = createTurns();
  return [
    route('patch.look', ({ params }) =>
      inTurn(params.zone, async () => {
        const { answer, body } = await look(placeOf(deps, params.zone), params);
        return body ? { answer, body } : answer;
      }),
    ),
    route('patch.apply', ({ params, body, peer }) =>
      inTurn(params.zone, async (answerEarly) => {
        if (!body) throw new KhloneError('invalid-params', 'patch.apply came without a payload');
        deps.assertDisk();
        const result = ({ answer, refused }: Taken) => ({ answer, body: json(refused) });
        const place = placeOf(deps, params.zone);
        return result(await take(place, params, attended(body, peer), (taken) => answerEarly(result(taken))));
      }),
    ),
    route('patch.agree', ({ params }) =>
      inTurn(params.zone, async () => {
        await agree(placeOf(deps, params.zone), params);
        return {};
      }),
    ),
    route('patch.commits', ({ params }) =>
      inTurn(params.zone, async () => {
        const { answer, body } = await commits(placeOf(deps, params.zone), params);
        return body ? { answer, body } : answer;
      }),
    ),
    route('patch.common', ({ params }) =>
      inTurn(params.zone, () => common(placeOf(deps, params.zone), params)),
    ),
  ];
};
