import { afterAll, describe, expect, test } from 'vitest';
import type { SERVER_FAULTS } from '../../src/protocol/fault-point.ts';
import { type Ground, makeGround, type Scenario, type Step } from './kill-ground.ts';

/**
 * The server dies exactly between two steps that belong together, at each such place, with each kind of work: no
 * receipt is lost, no act runs twice, the order holds, and every event is told once. Since only the server dies, every
 * task ends as if it had not. KHLONE_LONG=1 repeats the table.
 */

type Point = (typeof SERVER_FAULTS)[number];

const TIMES = process.env.KHLONE_LONG === '1' ? 20 : 1;

const act = (who: string) => ({
  ...{ kind: 'act' as const, who, ends: 'done' },
  script: (token: string) => `echo ${token} >> tokens; echo ${token}`,
});
const ask = {
  kind: 'ask' as const,
  who: 'reviewer',
  ends: 'done',
  script: (token: string) => `echo ${token}`,
};
const slow = {
  ...act('mechanic'),
  script: (token: string) => `sleep 0.3; echo ${token} >> tokens; echo ${token}`,
};
const endless = {
  ...{ kind: 'act' as const, who: 'mechanic', ends: 'cancelled' },
  script: (token: string) => `echo ${token} >> tokens; while :; do sleep 0.05; done`,
};
/** In a view the parent of a script is its brain, which is what dies here. */
const deadly = {
  ...{ kind: 'act' as const, who: 'mechanic', ends: 'unknown' },
  script: (token: string) => `echo ${token} >> tokens; kill -9 $PPID; sleep 1`,
};

const ACT: Scenario = { name: 'an act', tasks: [act('mechanic')] };
const ASK: Scenario = { name: 'an ask', tasks: [ask] };
const QUEUE: Scenario = {
  name: 'a queue',
  tasks: [act('mechanic'), act('reviewer'), act('mechanic')],
};
const SLOW: Scenario = { name: 'a slow act', tasks: [slow, act('mechanic'), ask], before: true };
const CANCEL: Scenario = { name: 'a cancelled act', tasks: [endless], cancelled: true };
const DEATH: Scenario = { name: 'an act whose brain dies', tasks: [deadly] };

/** Each place with an act, an ask, and a queue at several of its passings. */
const each = (points: readonly Point[]): Step[] =>
  points.flatMap((point): Step[] => [
    [point, 1, ACT],
    [point, 1, ASK],
    [point, 1, QUEUE],
    [point, 3, QUEUE],
  ]);

/** A queue for each of the first commits that a queue makes; how many there are depends on what shares one. */
const passings = (point: Point): Step[] => Array.from({ length: 8 }, (_, i) => [point, i + 1, QUEUE]);

const TABLE: Record<string, { steps: Step[]; fresh?: true }> = {
  'around the input': { steps: each(['input-noted', 'input-half', 'input-written']) },
  'around the output': {
    steps: each(['effect-read', 'effect-committed', 'end-read', 'end-committed']),
  },
  'before a commit': {
    steps: passings('journal-synced'),
  },
  'after a commit': {
    steps: passings('committed'),
  },
  // A session of its own for each task, because a process that goes on needs no new one.
  'around the start of a run': {
    steps: each(['run-noted', 'run-made', 'run-begun', 'run-shown']),
    fresh: true,
  },
  'around the end of a run': {
    steps: [
      ['run-ended', 1, QUEUE],
      ...each(['run-ended']),
      ['run-ended', 1, DEATH],
      ['turn-buried', 1, DEATH],
    ],
    fresh: true,
  },
  'in the middle of its recovery': {
    steps: (['recovering', 'adopted'] as const).flatMap((point): Step[] => [
      [point, 1, SLOW],
      [point, 2, SLOW],
    ]),
  },
  'around a cancel': {
    steps: [
      ['interrupt-noted', 1, CANCEL],
      ['end-read', 1, CANCEL],
      ['end-committed', 1, CANCEL],
      ['run-ended', 1, CANCEL],
    ],
  },
};

const grounds: Ground[] = [];
afterAll(async () => {
  await Promise.all(grounds.map(({ server }) => server.dispose()));
});

describe('a server that dies', () => {
  test.concurrent.each(Object.entries(TABLE))(
    '%s loses, repeats and reorders nothing',
    { timeout: TIMES * 300_000 },
    async (_name, { steps, fresh }) => {
      const ground = await makeGround();
      grounds.push(ground);
      for (let i = 0; i < TIMES; i++) {
        await ground.play(steps, fresh ?? false);
      }
      await ground.check();
      expect(ground.kills).toBe(TIMES * steps.length);
    },
  );
});
