import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { applyChanges } from '../../patch/apply.ts';
import { diffWithRenames } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Refusal } from '../../protocol/patch.ts';
import { recoverPull } from './exchange.ts';
import { applyPlaceOf, openGround, snapshotOf } from './ground.ts';
import { inTurn } from './lock.ts';
import type { StepPlace } from './steps.ts';

/** A patch from a file, applied to the worktree as a pull would: whole, by compare and swap, with copies kept. */

export type Applied = { done: string[]; refused: Refusal[] };

/**
 * Applies a git patch to the worktree's present state. Git's own rules hold: it applies as a whole or not at all.
 * Throws `conflict` with git's words where it does not fit, or names a path outside.
 */
export const applyPatchFile = (place: StepPlace, patch: Buffer): Promise<Applied> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    await recoverPull(ground);
    const { shadow } = ground;
    const { tree } = await snapshotOf(ground);
    const index = join(shadow.dir, `index.${randomBytes(6).toString('hex')}`);
    const step = async (args: readonly string[], input?: Buffer): Promise<string> => {
      const said = await shadow.run(args, { index, ...(input && { input }) });
      if (said.code === 0) return said.stdout.toString('utf8').trim();
      const why = said.stderr.trim().split('\n')[0]?.slice(0, 300) ?? '';
      throw new KhloneError('conflict', `the patch does not fit: ${why}`, 'nothing was changed');
    };
    try {
      await step(['read-tree', tree]);
      await step(['apply', '--cached', '--binary', '--whitespace=nowarn', '-'], patch);
      const result = await step(['write-tree']);
      const { changes, renames } = await diffWithRenames(shadow, tree, result);
      const applied = await applyChanges(applyPlaceOf(ground), shadow, changes, {
        note: null,
        moves: renames,
      });
      await applied.settle();
      return { done: applied.done, refused: applied.refused };
    } finally {
      await rm(index, { force: true });
      await rm(`${index}.lock`, { force: true });
    }
  });
