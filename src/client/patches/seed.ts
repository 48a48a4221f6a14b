import type { Repository } from '../../patch/shadow.ts';
import type { Choice } from './far.ts';
import { keepState, openGround } from './ground.ts';
import { inTurn } from './lock.ts';

/** Notes that both sides have the same state: what was carried is the first thing they agree on. */
export const seedState = (
  repository: Repository,
  zone: string,
  choice: Choice,
  tree: string,
): Promise<void> =>
  inTurn(repository.gitDir, async () => {
    const ground = await openGround(repository, zone, choice);
    // Anew: what an earlier zone of this place agreed on means nothing to this one.
    const { seq } = ground.state;
    await keepState(ground, {
      seq,
      toSend: 0,
      toPull: 0,
      conflicts: [],
      held: [],
      ignoredOnce: [],
      base: tree,
      remote: tree,
    });
  });
