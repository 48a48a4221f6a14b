import { applyChanges, recoverApplications } from '../../src/patch/apply.ts';
import { openShadow } from '../../src/patch/shadow.ts';
import { diffTrees } from '../../src/patch/tree.ts';

/** Recovers what an earlier process had begun, then applies FROM..TO: a process of its own, because it is killed. */

const [worktree = '', gitDir = '', shadowDir = '', keep = '', from = '', to = ''] = process.argv.slice(2);
const shadow = await openShadow({ worktree, gitDir, commonDir: gitDir }, shadowDir, 60_000);
const place = { worktree, keep };
const recovered = await recoverApplications(place, shadow);
for (const one of recovered) await one.settle();
const refused = recovered.flatMap((one) => one.refused.map(({ path }) => path));
if (recovered.length === 0) {
  const applied = await applyChanges(place, shadow, await diffTrees(shadow, from, to), {
    note: 'note',
    moves: [],
  });
  refused.push(...applied.refused.map(({ path }) => path));
  await applied.settle();
}
process.stdout.write(JSON.stringify(refused));
