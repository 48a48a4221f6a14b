import { afterEach, describe, expect, test, vi } from 'vitest';
import { createAnswerFilter } from '../../src/protocol/answers.ts';

/** What a terminal says of itself when a tmux client asks: typed to the client, and never to what is looked at. */

const KIND = '\x1b[?64;1;2c';
const VERSION = '\x1b[>84;0;0c';
const NAME = '\x1bP>|tmux 3.3a\x1b\\';

const typing = () => {
  const filter = createAnswerFilter();
  return (text: string): string => Buffer.from(filter(Buffer.from(text, 'latin1'))).toString('latin1');
};

afterEach(() => void vi.useRealTimers());

test('one answer of each kind is typed, and every other one ends here', () => {
  const type = typing();
  expect(type(`a${VERSION}b`)).toBe(`a${VERSION}b`);
  expect(type(`${VERSION}${KIND}${NAME}`)).toBe(`${KIND}${NAME}`);
  expect(type(`c${KIND}d${NAME}${VERSION}e`)).toBe('cde');
});

test('an answer in two pieces is one', () => {
  for (let at = 3; at < NAME.length; at += 1) {
    const type = typing();
    type(`${NAME}${VERSION}`);
    expect(type(`x${NAME.slice(0, at)}`)).toBe('x');
    expect(type(`${NAME.slice(at)}y`)).toBe('y');
    expect(type(VERSION.slice(0, 5)) + type(`${VERSION.slice(5)}z`)).toBe('z');
  }
});

test('an answer for which nobody waits any more is not typed', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const type = typing();
  vi.advanceTimersByTime(4_500);
  expect(type(`${NAME}${VERSION}ls\r`)).toBe('ls\r');
});

describe('keys go through at once', () => {
  const keys = [
    '\x1b',
    '\x1b[',
    '\x1b[A',
    '\x1bOP',
    '\x1b[1;2R',
    '\x1b[<0;5;5M',
    '\x1b[200~日本\x1b[201~',
    '\x1bP',
    '\x1b[I',
  ];
  test.each(keys)('%j', (key) => {
    const type = typing();
    type(`${KIND}${VERSION}${NAME}`);
    expect(type(key)).toBe(Buffer.from(key, 'latin1').toString('latin1'));
    expect(type('q')).toBe('q');
  });
});
