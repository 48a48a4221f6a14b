import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  GIVE_UP_MS,
  GIVE_UP_UNREPLACED_MS,
  type LinkEvent,
  type LinkState,
  step,
} from '../../../src/client/link/link-state.ts';

const failed = (final = false, silentMs = 3_000): LinkEvent => ({ type: 'failed', final, silentMs });
const mute = (canRace = true, silentMs = 3_000): LinkEvent => ({ type: 'mute', canRace, silentMs });
const [dial, greeted, quiet, doubt, sign, lost] = (
  ['dial', 'greeted', 'quiet', 'doubt', 'sign', 'lost'] as const
).map((type): LinkEvent => ({ type }));

/** From, what happened, to, and what is to be done. */
const TABLE: [LinkState, LinkEvent | undefined, LinkState, string][] = [
  ['idle', dial, 'connecting', ''],
  ['connecting', greeted, 'online', 'take'],
  ['connecting', failed(), 'offline', ''],
  ['connecting', failed(true), 'refused', ''],
  ['refused', dial, 'connecting', ''],
  // Tries go on behind one calm word.
  ['offline', dial, 'offline', ''],
  ['offline', failed(), 'offline', ''],
  ['offline', failed(true), 'refused', ''],
  ['offline', greeted, 'online', 'take'],
  // Silence is asked about before it is believed.
  ['online', quiet, 'online', 'ask'],
  ['online', sign, 'online', ''],
  ['online', doubt, 'suspect', 'ask'],
  ['online', mute(), 'racing', 'race'],
  ['online', lost, 'offline', ''],
  ['suspect', sign, 'online', ''],
  ['suspect', mute(), 'racing', 'race'],
  ['suspect', lost, 'offline', ''],
  // The first answer wins.
  ['racing', sign, 'online', ''],
  ['racing', greeted, 'online', 'take'],
  ['online', greeted, 'online', 'dismiss'],
  ['suspect', greeted, 'online', 'take'],
  // A race that fails proves nothing about the old one until it was silent for long.
  ['racing', mute(), 'racing', ''],
  ['racing', failed(), 'suspect', 'ask'],
  ['racing', failed(false, GIVE_UP_MS), 'offline', 'give-up'],
  ['racing', lost, 'offline', ''],
  // One that only a person could replace is kept for longer, and no race is run again that would ask for one.
  ['racing', failed(true, GIVE_UP_MS), 'suspect', 'ask'],
  ['suspect', mute(false, GIVE_UP_MS), 'suspect', 'ask'],
  ['suspect', mute(false, GIVE_UP_UNREPLACED_MS), 'offline', 'give-up'],
  // Words that come too late.
  ['offline', sign, 'offline', ''],
  ['offline', mute(), 'offline', ''],
  ['offline', doubt, 'offline', ''],
  ['refused', lost, 'refused', ''],
  ['idle', lost, 'idle', ''],
];

describe('a link', () => {
  for (const [from, event, state, effects] of TABLE) {
    it(`that is ${from} becomes ${state} on ${JSON.stringify(event)}${effects && ` and does: ${effects}`}`, () => {
      expect(event && step(from, event)).toEqual({ state, effects: effects ? [effects] : [] });
    });
  }

  const event = fc.oneof(
    fc.constantFrom(...[dial, greeted, quiet, doubt, sign, lost].filter((e) => e !== undefined)),
    fc.record({
      type: fc.constant('failed' as const),
      final: fc.boolean(),
      silentMs: fc.integer({ min: 0, max: 60_000 }),
    }),
    fc.record({
      type: fc.constant('mute' as const),
      canRace: fc.boolean(),
      silentMs: fc.integer({ min: 0, max: 60_000 }),
    }),
  );

  it('never rests in doubt: whatever happened, it asks, races, or knows', () => {
    fc.assert(
      fc.property(fc.array(event, { size: 'max', maxLength: 200 }), (events) => {
        let state: LinkState = 'idle';
        for (const one of events) {
          const next = step(state, one);
          const enters = next.state !== state;
          if (enters && next.state === 'suspect') expect(next.effects).toEqual(['ask']);
          if (enters && next.state === 'racing') expect(next.effects).toEqual(['race']);
          state = next.state;
        }
        // A connection that answers always brings it back.
        expect(step(state, { type: 'greeted' }).state).toBe('online');
      }),
    );
  });
});
