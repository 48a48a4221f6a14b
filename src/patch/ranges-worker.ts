import { parentPort, workerData } from 'node:worker_threads';
import { diff3Merge } from 'node-diff3';
import type { Region } from './ranges.ts';

/**
 * The one file that knows node-diff3, and a thread of its own: on lines that repeat it takes minutes for what git does
 * in milliseconds, and whoever waits for it ends it.
 */

export type RangesQuestion = { base: string[]; local: string[]; remote: string[] };

const regionsOf = ({ base, local, remote }: RangesQuestion): Region[] =>
  diff3Merge(local, base, remote, { excludeFalseConflicts: true }).flatMap(({ conflict }) =>
    conflict === undefined
      ? []
      : [
          {
            local: { from: conflict.aIndex + 1, to: conflict.aIndex + conflict.a.length },
            remote: { from: conflict.bIndex + 1, to: conflict.bIndex + conflict.b.length },
          },
        ],
  );

parentPort?.postMessage(regionsOf(workerData as RangesQuestion));
