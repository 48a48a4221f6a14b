import fc from 'fast-check';
import { expect, test } from 'vitest';
import { aboutOf, itemIn, seqOf } from '../../src/server/line-head.ts';

/** The head of a journal's line says what the whole line does, whatever stands in it. */

const word = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom('mechanic.1', 'a","clone":"b', '\\', '"', '\u2028', 'é', 'task-7f3k2m9qx4'),
);
const maybe = fc.option(word, { nil: undefined });
const event = fc.oneof(
  fc.record({ type: fc.constant('text'), text: word }),
  fc.record({ type: fc.constantFrom('task', 'note') }),
  fc.record({ type: word }),
);
const item = fc.record({
  ...{ epoch: fc.constant('0123abcd'), seq: fc.nat(), atMs: fc.oneof(fc.nat(), fc.double({ noNaN: true })) },
  ...{ task: maybe, clone: maybe, session: maybe, event },
});

test('of any item', () => {
  fc.assert(
    fc.property(item, (made) => {
      const line = Buffer.from(`${JSON.stringify(made)}\n`);
      expect(seqOf(line)).toBe(made.seq);
      const { task, clone, session } = made;
      expect(aboutOf(line)).toEqual({ task, clone, session, type: made.event.type });
      expect(itemIn(line)).toEqual(JSON.parse(line.toString('utf8')));
    }),
    { numRuns: 2_000 },
  );
});

test('of what somebody else wrote there, nothing', () => {
  for (const text of ['', '{}', 'null', '[1]', '{"epoch":"e"}', '{"seq":"1"}', '{"epoch":"e","seq":1x']) {
    const line = Buffer.from(`${text}\n`);
    expect(seqOf(line)).toBeUndefined();
    expect(aboutOf(line)).toBeUndefined();
  }
});
