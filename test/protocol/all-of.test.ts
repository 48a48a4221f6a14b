import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { allOf } from '../../src/protocol/all-of.ts';

it('tells the first that failed, once all have ended', async () => {
  let ended = 0;
  const end = async (ms: number): Promise<void> => {
    await setTimeout(ms);
    ended += 1;
  };
  await allOf(end(1), undefined, end(5));
  expect(ended).toBe(2);
  const work = allOf(Promise.reject(new Error('one')), end(20), Promise.reject(new Error('two')));
  await expect(work).rejects.toThrow('one');
  expect(ended).toBe(3);
});
