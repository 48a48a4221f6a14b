import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Comparison, captureState, compareStates, type WorktreeState } from '../patch/compare.ts';
import type { TaskEvent } from './queue.ts';
import type { LiveRun, RunDeps } from './run.ts';
import { knownGitDirs } from './store/git-dirs.ts';
import type { Store } from './store/store.ts';
import { keptTreeOf } from './store/tasks.ts';
import type { ZoneRow } from './store/zones.ts';
import { gitDirsOf } from './zone-paths.ts';
import { zoneShadowDir } from './zone-removal.ts';

/**
 * What a worktree was at the start of a turn. A task that is tried again tells its brain what changed since, and where
 * the kernel gives no view, an ask is held against it: a change is reported and kept as a patch, and nothing is undone.
 */

/** A first look at a large worktree takes seconds; one that takes longer than this is done without. */
const LOOK_DEADLINE_MS = 60_000;
const MAX_NAMED_PATHS = 50;

type Deps = Pick<RunDeps, 'store' | 'zonesDir'>;

const placeOf = async ({ store, zonesDir }: Deps, zone: ZoneRow) => {
  const [gitDir, commonDir = gitDir] = await knownGitDirs(store, zone, gitDirsOf);
  if (gitDir === undefined || commonDir === undefined) return undefined;
  return { worktree: zone.path, gitDir, commonDir, shadowDir: zoneShadowDir(zonesDir, zone.id) };
};

/** The worktree's state now; undefined where it cannot be told (no repository any more, a full disk). */
export const witnessed = async (deps: Deps, zone: ZoneRow): Promise<WorktreeState | undefined> => {
  try {
    const place = await placeOf(deps, zone);
    return place && (await captureState(place, LOOK_DEADLINE_MS));
  } catch {
    return undefined;
  }
};

export const keepWitness = (store: Store, task: string, state: WorktreeState): void =>
  store.run('UPDATE tasks SET tree = ? WHERE id = ?', JSON.stringify(state), task);

const changesSince = async (
  deps: Deps,
  zone: ZoneRow,
  before: WorktreeState,
): Promise<Comparison | undefined> => {
  try {
    const place = await placeOf(deps, zone);
    return (
      place &&
      (await compareStates(place, before, await captureState(place, LOOK_DEADLINE_MS), LOOK_DEADLINE_MS))
    );
  } catch {
    return undefined;
  }
};

const named = (paths: readonly string[]): string => {
  const shown = paths.slice(0, MAX_NAMED_PATHS).map((path) => JSON.stringify(path));
  return shown.join(', ') + (paths.length > shown.length ? ` and ${paths.length - shown.length} more` : '');
};

/** What changed in the worktree since the task's turn began, in words for its brain. */
export const changedSince = async (deps: Deps, zone: ZoneRow, task: string): Promise<string | undefined> => {
  const kept = keptTreeOf(deps.store, task);
  if (kept === null) return undefined;
  const changes = await changesSince(deps, zone, JSON.parse(kept) as WorktreeState);
  if (!changes) return undefined;
  if (!changes.changed) return 'Nothing in the worktree has changed since that attempt began.';
  const commits = changes.refsMoved ? ' Commits or branches moved, too.' : '';
  return `Changed in the worktree since that attempt began: ${named(changes.paths) || 'no file'}.${commits}`;
};

/** The violation of an ask that ran without a view, if there is one. Another clone's act may be the writer: it is said. */
export const violationOf = async (
  deps: Deps,
  zone: ZoneRow,
  run: LiveRun,
  before: WorktreeState,
): Promise<TaskEvent | undefined> => {
  const changes = await changesSince(deps, zone, before);
  if (!changes?.changed) return undefined;
  const file = join(run.dir, 'ask-changed.patch');
  if (changes.patch.length > 0) writeFileSync(file, changes.patch, { mode: 0o600 });
  const what = changes.paths.length > 0 ? named(changes.paths.slice(0, 5)) : 'commits or branches';
  return {
    type: 'failed',
    error: 'ask-changed',
    message: `while the ask ran, the worktree changed: ${what}; nothing was undone`,
    hint: changes.patch.length > 0 ? `the change is kept as ${file}` : 'git log, git status',
  };
};
