import { expect, test } from 'vitest';
import { createTypedKeys, type TypedKeys } from '../../../src/client/attach/typed.ts';

/** Keys that wait for a way to travel, and go again where one broke. */

const MIB = 1024 * 1024;

const type = (keys: TypedKeys, text: string): boolean => keys.push(Buffer.from(text));
const opened = (keys: TypedKeys, typed?: { of: string; bytes: number }) => {
  const opening = keys.open();
  const reader = opening.body[Symbol.asyncIterator]();
  opening.begin(typed);
  return { next: async () => Buffer.from((await reader.next()).value ?? []).toString(), end: opening.end };
};

test('keys come out joined and in order, also those that are typed while somebody waits for them', async () => {
  const keys = createTypedKeys();
  type(keys, 'a');
  type(keys, 'b');
  const opening = opened(keys);
  expect(await opening.next()).toBe('ab');
  const late = opening.next();
  type(keys, 'c');
  expect(await late).toBe('c');
  const last = opening.next();
  opening.end();
  expect(await last).toBe('');
});

test('what does not fit is refused as a whole, until something has left', async () => {
  const keys = createTypedKeys();
  expect(keys.push(Buffer.alloc(MIB - 1))).toBe(true);
  expect(keys.push(Buffer.alloc(2))).toBe(false);
  expect(await opened(keys).next()).toHaveLength(MIB - 1);
  expect(keys.push(Buffer.alloc(MIB))).toBe(true);
});

test('what a break swallowed goes again, from where the viewer came to', async () => {
  const keys = createTypedKeys();
  const first = opened(keys, { of: 'one', bytes: 0 });
  type(keys, 'echo ');
  expect(await first.next()).toBe('echo ');
  type(keys, 'half');
  expect(await first.next()).toBe('half');
  type(keys, '\r');
  const second = opened(keys, { of: 'one', bytes: 5 });
  expect(await second.next()).toBe('half\r');
  expect(await first.next()).toBe('');
  const third = opened(keys, { of: 'one', bytes: 10 });
  type(keys, 'x');
  expect(await third.next()).toBe('x');
});

test('of a viewer that began anew, or does not tell, nothing is typed a second time', async () => {
  const keys = createTypedKeys();
  const first = opened(keys, { of: 'one', bytes: 0 });
  type(keys, 'rm -r x\r');
  await first.next();
  for (const typed of [{ of: 'two', bytes: 0 }, undefined, { of: 'three', bytes: 7 }]) {
    const again = opened(keys, typed);
    type(keys, 'y');
    expect(await again.next()).toBe('y');
  }
});

test('a count that is no place among the kept keys is not believed', async () => {
  const keys = createTypedKeys();
  const first = opened(keys, { of: 'one', bytes: 0 });
  keys.push(Buffer.alloc(100_000, 'k'));
  await first.next();
  type(keys, 'l');
  await first.next();
  for (const bytes of [3, 5_000_000]) {
    const again = opened(keys, { of: 'one', bytes });
    type(keys, 'z');
    expect(await again.next()).toBe('z');
  }
});
