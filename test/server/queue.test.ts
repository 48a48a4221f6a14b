import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ENDED, TASK_STATES, type TaskState } from '../../src/protocol/calls.ts';
import { isRunning, MAX_ATTEMPTS, reduce, type TaskCore, type TaskEvent } from '../../src/server/queue.ts';

/** The life of a task, held to what the product promises, over any order of events. */

const LONG = process.env.KHLONE_LONG === '1';
const SIZE = { numRuns: LONG ? 50_000 : 1_000 };

const words = fc.string({ maxLength: 8 });
const event: fc.Arbitrary<TaskEvent> = fc.oneof(
  ...(
    ['dispatch', 'wake', 'started', 'effect', 'done', 'interrupted', 'cancel', 'disrupt', 'resume'] as const
  ).map((type) => fc.constant<TaskEvent>({ type })),
  fc.record({ type: fc.constant('dispatch' as const) }),
  fc.record({
    type: fc.constant('hold' as const),
    hold: fc.constantFrom('rate', 'brain-auth', 'environment'),
  }),
  fc.record({ type: fc.constant('failed' as const), error: words, message: words }),
  fc.record({
    type: fc.constant('died' as const),
    how: fc.constantFrom('exit' as const, 'killed' as const, 'reboot' as const),
    message: words,
  }),
  fc.record({ type: fc.constant('retried' as const), by: words }),
) as fc.Arbitrary<TaskEvent>;

const fresh = fc.record({
  kind: fc.constantFrom('ask' as const, 'act' as const),
  repeatable: fc.boolean(),
  state: fc.constant<TaskState>('queued'),
  attempt: fc.constant(0),
  effect: fc.constant(false),
});
const lives = fc.tuple(fresh, fc.array(event, { maxLength: 60, size: 'max' }));

type Step = { before: TaskCore; event: TaskEvent; after: TaskCore };
const stepsOf = (task: TaskCore, events: readonly TaskEvent[]): Step[] => {
  let before = task;
  return events.map((one) => {
    const step = { before, event: one, after: reduce(before, one) };
    before = step.after;
    return step;
  });
};

const everyStep = (holds: (step: Step, earlier: readonly Step[]) => void): void =>
  fc.assert(
    fc.property(lives, ([task, events]) => {
      const steps = stepsOf(task, events);
      for (const [i, step] of steps.entries()) holds(step, steps.slice(0, i));
    }),
    SIZE,
  );

const waits = (state: TaskState): boolean =>
  state === 'queued' || state === 'held' || state === 'dispatching';

describe('whatever happens to a task', () => {
  test('its end is final', () => {
    everyStep(({ before, after }) => {
      if (ENDED.has(before.state)) expect(after).toBe(before);
    });
  });

  test('its state is one that the protocol knows', () => {
    everyStep(({ after }) => expect(TASK_STATES).toContain(after.state));
  });

  test('an act whose run died after an effect is unknown, or ends: it is never sent again', () => {
    everyStep(({ before, event: one, after }) => {
      if (before.kind !== 'act' || !before.effect || !isRunning(before.state)) return;
      if (one.type === 'died' && before.state !== 'cancelling') expect(after.state).toBe('unknown');
      // A disrupted task goes on in its session; everything else that had an effect may not wait to be sent.
      if (before.state !== 'pausing') expect(waits(after.state) && after.state !== before.state).toBe(false);
    });
  });

  test('an act that a reboot met in its middle is never sent again', () => {
    everyStep(({ before, event: one, after }) => {
      if (before.kind !== 'act' || one.type !== 'died' || one.how !== 'reboot' || !isRunning(before.state))
        return;
      expect(['unknown', 'cancelled']).toContain(after.state);
    });
  });

  test('an ask that may not be repeated is not repeated after an effect', () => {
    everyStep(({ before, event: one, after }) => {
      if (before.kind !== 'ask' || before.repeatable || !before.effect || one.type !== 'died') return;
      if (isRunning(before.state)) expect(['unknown', 'cancelled']).toContain(after.state);
    });
  });

  test('a brain that always dies is tried a bounded number of times', () => {
    everyStep(({ before, event: one, after }) => {
      if (one.type !== 'died' || !isRunning(before.state) || after.state !== 'queued') return;
      expect(after.attempt).toBeLessThan(MAX_ATTEMPTS);
    });
    const dying: TaskEvent[] = [{ type: 'dispatch' }, { type: 'died', how: 'exit', message: 'm' }];
    const many = stepsOf(
      { kind: 'act', state: 'queued', attempt: 0, effect: false, repeatable: false },
      Array.from({ length: 20 }, () => dying).flat(),
    );
    expect(many.at(-1)?.after).toMatchObject({ state: 'failed', attempt: MAX_ATTEMPTS });
  });

  test('only a dispatch counts as an attempt', () => {
    everyStep(({ before, event: one, after }) => {
      const dispatched =
        one.type === 'dispatch' && after.state === 'dispatching' && before.state !== 'dispatching';
      expect(after.attempt).toBe(before.attempt + (dispatched ? 1 : 0));
    });
  });

  test('a cancelled task ends as cancelled or done, at the latest when its run ended', () => {
    everyStep(({ event: one, before, after }, earlier) => {
      const cancelled = [...earlier.map((step) => step.event), one].some(({ type }) => type === 'cancel');
      if (!cancelled) return;
      const endedBefore = earlier.some(
        (step) => step.event.type === 'cancel' && ENDED.has(step.before.state),
      );
      if (ENDED.has(before.state) || endedBefore) return;
      expect(['cancelled', 'cancelling', 'done']).toContain(after.state);
      const settles = ['done', 'failed', 'interrupted', 'died', 'hold'].includes(one.type);
      if (before.state === 'cancelling' && settles) expect(ENDED.has(after.state)).toBe(true);
    });
  });

  test('a reason is told only while it holds', () => {
    everyStep(({ after }) => {
      if (after.hold !== undefined) expect(after.state).toBe('held');
      if (after.wakeAtMs !== undefined) expect(after.state).toBe('held');
      if (after.error !== undefined) expect(['failed', 'unknown']).toContain(after.state);
    });
  });
});

test('a rate limit that meets a cancelled turn ends it: it does not cancel for ever', () => {
  const cancelling: TaskCore = {
    kind: 'act',
    state: 'cancelling',
    attempt: 1,
    effect: false,
    repeatable: false,
  };
  expect(reduce(cancelling, { type: 'hold', hold: 'rate', message: 'slow down' }).state).toBe('cancelled');
});

test('an act that had an effect is not held and sent again when its account fails in its middle', () => {
  const active: TaskCore = { kind: 'act', state: 'active', attempt: 1, effect: true, repeatable: false };
  const after = reduce(active, { type: 'hold', hold: 'rate', message: 'slow down' });
  expect(after).toMatchObject({ state: 'failed', message: 'slow down' });
});
