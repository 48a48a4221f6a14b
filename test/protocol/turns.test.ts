import { expect, test } from 'vitest';
import { createTurns } from '../../src/protocol/turns.ts';

/** Work on one thing, one after the other. */

/** Work that goes on until it is let go, and what of it began and ended. */
const held = (said: string[], name: string) => {
  const gate = Promise.withResolvers<void>();
  const work = async (answer: (value: string) => void): Promise<string> => {
    said.push(`${name} begins`);
    answer(`${name} early`);
    await gate.promise;
    said.push(`${name} ends`);
    return name;
  };
  return { work, go: gate.resolve, fail: gate.reject };
};

test('work on one thing waits for what is before it, work on another does not', async () => {
  const said: string[] = [];
  const inTurn = createTurns();
  const first = held(said, 'first');
  const answers = [
    inTurn('a', first.work),
    inTurn('a', async () => 'second'),
    inTurn('b', async () => 'other'),
  ];
  expect(await answers[2]).toBe('other');
  expect(said).toEqual(['first begins']);
  first.go();
  expect(await Promise.all(answers)).toEqual(['first early', 'second', 'other']);
  expect(said).toEqual(['first begins', 'first ends']);
});

test('an early answer is told at once, and the turn lasts until the work is over', async () => {
  const said: string[] = [];
  const inTurn = createTurns();
  const first = held(said, 'first');
  expect(await inTurn('a', first.work)).toBe('first early');
  const second = inTurn('a', async () => {
    said.push('second');
    return 'second';
  });
  first.fail(new Error('told to nobody'));
  expect(await second).toBe('second');
  expect(said).toEqual(['first begins', 'second']);
});

test('a failure is told to who asked, and the next has its turn', async () => {
  const inTurn = createTurns();
  const failed = inTurn('a', async () => Promise.reject(new Error('no')));
  await expect(failed).rejects.toThrow('no');
  expect(await inTurn('a', async () => 'next')).toBe('next');
});
