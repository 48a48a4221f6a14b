import { readMadeBy } from '../../patch/made-by.ts';
import { Manifest } from '../../patch/manifest.ts';
import { unpackWorktree } from '../../patch/unpack.ts';
import type { AnswerOf, Params } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type ZoneRow, zoneRow } from '../store/zones.ts';
import { zoneShadowDir } from '../zone-removal.ts';
import { type Ask, route } from './route.ts';
import type { TaskDeps } from './tasks.ts';
import { release } from './zones.ts';

/** The first code of a zone: it arrives as one pack, and whatever waited for it goes on. */

/** A zone's count of files travels as a number of the protocol's range. */
const MAX_COUNT = 1_000_000;

type Put = AnswerOf<'code.put'>;

/** A local zone is the person's own worktree, unless it waits for code or was made from code that came. */
const isOwnWorktree = async ({ id, mode, state, path }: ZoneRow): Promise<boolean> =>
  mode === 'local' && state !== 'preparing' && (await readMadeBy(path))?.zone !== id;

const unpack = async (
  deps: TaskDeps,
  params: Params<'code.put'>,
  body: Ask<'code.put'>['body'],
): Promise<Put> => {
  const { store } = deps.hall;
  const zone = zoneRow(store, params.zone);
  if (!zone)
    throw new KhloneError('not-found', 'that zone is not known on its machine', 'khlone init makes it');
  if (await isOwnWorktree(zone)) throw new KhloneError('conflict', 'a local zone is the worktree itself');
  const manifest = Manifest.safeParse(params.manifest);
  if (!manifest.success) {
    const issue = manifest.error.issues[0];
    throw new KhloneError(
      'invalid-params',
      `code.put: manifest: ${issue?.path.join('.')}: ${issue?.message}`,
    );
  }
  if (!body) throw new KhloneError('invalid-params', 'code.put came without a pack');
  deps.assertDisk();
  const shadowDir = zoneShadowDir(deps.zonesDir, zone.id);
  const made = await unpackWorktree({
    manifest: manifest.data,
    body,
    path: zone.path,
    zone: zone.id,
    shadowDir,
  });
  await store.write(() =>
    store.run("UPDATE zones SET state = 'ready' WHERE id = ? AND state = 'preparing'", zone.id),
  );
  await release(deps.hall, zone.id, ['code']);
  return { head: made.head, files: Math.min(made.files, MAX_COUNT), tree: made.tree };
};

/** One unpack per zone at a time: whoever comes second gets the answer of the first. */
export const codeRoutes = (deps: TaskDeps) => {
  const underway = new Map<string, Promise<Put>>();
  return [
    route('code.put', ({ params, body }) => {
      const known = underway.get(params.zone);
      if (known) return known;
      const made = unpack(deps, params, body).finally(() => underway.delete(params.zone));
      underway.set(params.zone, made);
      return made;
    }),
  ];
};
