import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Application, recoverApplications } from '../patch/apply.ts';
import { exists } from '../patch/near-disk.ts';
import { openShadow, type Repository, type Shadow } from '../patch/shadow.ts';
import { repositoryAt } from '../patch/unpack.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { Receipt, writeReceipt } from './patch-receipts.ts';
import { zoneShadowDir } from './zone-removal.ts';

/** Where a zone keeps what patches need, and how a change that was begun ends. */

export const GIT_DEADLINE_MS = 15 * 60_000;

/** A zone with a worktree that khlone made. */
export type PatchPlace = { zone: string; path: string; zonesDir: string };

/** A zone, ready to exchange patches. Used in the zone's turn. */
export type Ground = {
  place: PatchPlace;
  repository: Repository;
  shadow: Shadow;
  /** What the zone keeps of patches, outside of its clones' reach. */
  dir: string;
};

export const groundOf = async (place: PatchPlace): Promise<Ground> => {
  const repository = repositoryAt(place.path);
  const dir = join(place.zonesDir, place.zone, 'patches');
  if (!(await exists(dir))) await mkdir(dir, { recursive: true, mode: 0o700 });
  const shadow = await openShadow(repository, zoneShadowDir(place.zonesDir, place.zone), GIT_DEADLINE_MS);
  return { place, repository, shadow, dir };
};

export const applyPlaceOf = ({ place, dir }: Ground) => ({
  worktree: place.path,
  keep: join(dir, 'displaced'),
});

/** A place for a payload. */
export const fresh = (dir: string): string => join(dir, `payload-${randomBytes(6).toString('hex')}`);

const Note = Receipt.pick({ replica: true, seq: true, sha256: true });

/** Notes that a change was taken in, and closes its journal, in this order: a repeat is then answered, not applied. */
export const keepReceipt = async ({ dir }: Ground, applied: Application): Promise<Receipt | undefined> => {
  const note = Note.safeParse(applied.note).data;
  const receipt = note && { ...note, done: applied.done.length, refused: applied.refused };
  if (receipt) await writeReceipt(dir, receipt);
  faultPoint('patch.received');
  await applied.settle();
  return receipt;
};

/** What a server that died had begun is finished before anything else looks at the worktree. */
export const recover = async (ground: Ground): Promise<void> => {
  for (const one of await recoverApplications(applyPlaceOf(ground), ground.shadow))
    await keepReceipt(ground, one);
};
