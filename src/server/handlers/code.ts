import { readMadeBy } from '../../patch/made-by.ts';
import { Manifest } from '../../patch/manifest.ts';
import { unpackWorktree } from '../../patch/unpack.ts';
import type { AnswerOf } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type ZoneRow, zoneRow } from '../store/zones.ts';
import { zoneShadowDir } from '../zone-removal.ts';
import { attended } from './attended.ts';
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

const unpack = async (deps: TaskDeps, { params, body, peer }: Ask<'code.put'>): Promise<Put> => {
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
    body: attended(body, peer),
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

/** One unpack per zone at a time: whoever comes meanwhile gets its answer, or brings the code where that one broke off. */
export const codeRoutes = (deps: TaskDeps) => {
  const underway = new Map<string, Promise<Put>>();
  return [
    route('code.put', async (ask) => {
      const { zone } = ask.params;
      for (let other = underway.get(zone); other; other = underway.get(zone)) {
        const made = await other.catch(() => undefined);
        if (made) return made;
      }
      const mine = unpack(deps, ask).finally(() => underway.delete(zone));
      underway.set(zone, mine);
      return mine;
    }),
  ];
};
