import { expect, test } from 'vitest';
import { createTypedKeys } from '../../../src/client/attach/typed.ts';

/** Keys that wait for a way to travel. */

const MIB = 1024 * 1024;

test('keys come out joined and in order, also those that are typed while somebody waits for them', async () => {
  const keys = createTypedKeys();
  keys.push(Buffer.from('a'));
  keys.push(Buffer.from('b'));
  const reader = keys.body[Symbol.asyncIterator]();
  expect(Buffer.from((await reader.next()).value).toString()).toBe('ab');
  const late = reader.next();
  keys.push(Buffer.from('c'));
  expect(Buffer.from((await late).value).toString()).toBe('c');
  keys.end();
  expect(await reader.next()).toEqual({ done: true, value: undefined });
});

test('what does not fit is refused as a whole, until something has left', async () => {
  const keys = createTypedKeys();
  expect(keys.push(Buffer.alloc(MIB - 1))).toBe(true);
  expect(keys.push(Buffer.alloc(2))).toBe(false);
  const reader = keys.body[Symbol.asyncIterator]();
  expect((await reader.next()).value).toHaveLength(MIB - 1);
  expect(keys.push(Buffer.alloc(MIB))).toBe(true);
});

test('nothing is taken after the end', () => {
  const keys = createTypedKeys();
  keys.end();
  expect(keys.push(Buffer.from('a'))).toBe(false);
});
