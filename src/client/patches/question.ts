import type { Far, Look } from './far.ts';
import type { Ground } from './ground.ts';
import { askZone } from './meet.ts';

/** What the zone is like, asked once, and only where that has to be known. */

export type Question = {
  /** Asks. Resolves once the question is on its way: what is sent from then on is behind it. */
  send(): Promise<void>;
  /** Asks, unless that was done. Throws what asking throws. */
  answer(): Promise<Look>;
  /** Undefined where nobody asked. */
  asked(): Promise<Look> | undefined;
};

export const createQuestion = (ground: Ground, far: Far): Question => {
  const leaves = Promise.withResolvers<void>();
  const look: Far['look'] = (wish) => {
    const answer = far.look(wish);
    leaves.resolve();
    return answer;
  };
  let asked: Promise<Look> | undefined;
  const answer = (): Promise<Look> => {
    asked ??= askZone(ground, { ...far, look });
    // Where it could not even be sent, whoever wants the answer is told.
    asked.catch(() => leaves.resolve());
    return asked;
  };
  return {
    answer,
    asked: () => asked,
    send: () => {
      void answer();
      return leaves.promise;
    },
  };
};
