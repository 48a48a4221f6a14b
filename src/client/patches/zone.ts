import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Binding } from '../bindings.ts';
import type { Connected } from '../link/link.ts';
import { loadSiteConfig, type SiteConfig } from '../site-config.ts';
import { requireTrust, type TrustHome } from '../trust.ts';
import { findWorktree, type Worktree } from '../worktree.ts';
import { type Choice, type Far, farOf } from './far.ts';
import type { StepPlace, StepWish } from './steps.ts';

/** A zone as the other end of an exchange, with the worktree of this machine that belongs to it. */

export type PatchZone = { binding: Binding; place: StepPlace };

/** A zone that is the person's own worktree has nothing to exchange: both sides are one folder. */
export const isOwnWorktree = ({ mode, path, root }: Binding): boolean => mode === 'local' && path === root;

const choiceOf = ({ sync: { maxFileBytes, include, exclude } }: SiteConfig): Choice => ({
  maxFileBytes,
  include: [...include],
  exclude: [...exclude],
});

export const patchZoneOf = (binding: Binding, worktree: Worktree, config: SiteConfig): PatchZone => ({
  binding,
  place: {
    repository: { worktree: worktree.root, gitDir: worktree.gitDir, commonDir: worktree.commonDir },
    zone: binding.zone,
    choice: choiceOf(config),
  },
});

/**
 * The same for a zone that no command stands in. Throws `no-repository` where its worktree is gone, and `not-trusted`:
 * khlone.yml says which private files travel, and a pull may have brought one that a clone wrote.
 */
export const patchZoneAt = async (home: TrustHome, binding: Binding): Promise<PatchZone> => {
  const worktree = await findWorktree(binding.root);
  if (worktree?.root === binding.root) {
    const config = await loadSiteConfig(worktree.root);
    await requireTrust(home, worktree, config);
    return patchZoneOf(binding, worktree, config);
  }
  throw new KhloneError('no-repository', `${binding.root} is no git worktree any more`, 'khlone zone del');
};

/** A disk that is full is the one of that machine, which somebody who reads its path would take for this one. */
const named = <T>({ host, mode }: Binding, work: Promise<T>): Promise<T> =>
  work.catch((thrown: unknown) => {
    const { code, message, hint } = asKhloneError(thrown);
    if (code !== 'disk-low' || mode === 'local') throw thrown;
    throw new KhloneError(code, `on ${host}: ${message}`, hint);
  });

export const farSide = ({ place, binding }: PatchZone, { peer }: Connected): Far => {
  const far = farOf(peer, place.zone, place.choice);
  return {
    ...far,
    look: (wish) => named(binding, far.look(wish)),
    apply: (change, payload) => named(binding, far.apply(change, payload)),
  };
};

/** Whether the zone follows a branch: a detached one has the digits of its commit for a name. */
export const wishFor = (
  { binding }: PatchZone,
  more: { files?: readonly string[]; yes: boolean; alone?: boolean; begin?: () => void },
): StepWish => ({
  ...more,
  branch: /^[0-9a-f]{7}$/u.test(binding.branch) ? undefined : binding.branch,
});
