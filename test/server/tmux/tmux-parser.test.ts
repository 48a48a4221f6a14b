import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createTmuxParser,
  MAX_BLOCK_BYTES,
  MAX_LINE_BYTES,
  type TmuxEvent,
} from '../../../src/server/tmux/tmux-parser.ts';
import { record } from '../../corpus/tmux/record.ts';

const CORPUS = join(import.meta.dirname, '../../corpus/tmux');
const NAMES = readdirSync(CORPUS)
  .filter((file) => file.endsWith('.out'))
  .map((file) => file.slice(0, -'.out'.length));

const bytes = (latin1: string): Uint8Array => new Uint8Array(Buffer.from(latin1, 'latin1'));
const latin1 = (raw: Uint8Array): string => Buffer.from(raw).toString('latin1');
const parse = (...chunks: Uint8Array[]): TmuxEvent[] => chunks.flatMap(createTmuxParser());
const parseText = (text: string): TmuxEvent[] => parse(bytes(text));

/** Byte fields as text, so that two lists of events can be compared and read. */
const plain = (events: TmuxEvent[]): unknown =>
  JSON.parse(JSON.stringify(events, (_, value) => (value instanceof Uint8Array ? latin1(value) : value)));

const cutAt = (raw: Uint8Array, sizes: number[]): Uint8Array[] => {
  const chunks: Uint8Array[] = [];
  let at = 0;
  for (let turn = 0; at < raw.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(raw.subarray(at, at + size));
    at += size;
  }
  return chunks;
};

const blocksAsked = (events: TmuxEvent[]) =>
  events.flatMap((event) => (event.type === 'block' && event.flags === 1 ? [event] : []));
const outputOf = (events: TmuxEvent[], pane: string): Uint8Array =>
  Buffer.concat(
    events.flatMap((event) => (event.type === 'output' && event.pane === pane ? [event.bytes] : [])),
  );
const exitReasons = (events: TmuxEvent[]): string[] =>
  events.flatMap((event) => (event.type === 'notice' && event.name === 'exit' ? [latin1(event.rest)] : []));

/** What the story of each recording must show, whichever tmux wrote it. */
const STORIES: Record<string, (events: TmuxEvent[]) => void> = {
  basic: (events) => {
    const [hello, windows, nonsense] = blocksAsked(events);
    expect(hello?.lines.map(latin1)).toEqual(['hello']);
    expect(windows?.lines).toHaveLength(1);
    expect(nonsense?.ok).toBe(false);
  },
  windows: (events) => {
    const renamed = events.find((event) => event.type === 'notice' && latin1(event.rest) === 'b : c %d');
    expect(renamed).toMatchObject({ name: 'window-renamed', fields: ['@1'] });
    expect(events.some((event) => event.type === 'notice' && event.name.endsWith('window-close'))).toBe(true);
    expect(events.filter((event) => event.type === 'unknown')).toEqual([]);
  },
  bytes: (events) => {
    const all = Buffer.from(Array.from({ length: 255 }, (_, at) => at + 1));
    expect(outputOf(events, '%1')).toEqual(Buffer.concat([all, Buffer.from('DONE')]));
  },
  utf8split: (events) => {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(outputOf(events, '%1'));
    expect(text).toBe(`${'€'.repeat(12_000)}DONE`);
  },
  subs: (events) => {
    const told = events.filter((event) => event.type === 'notice' && event.name === 'subscription-changed');
    expect(plain(told)).toMatchObject([
      { fields: ['count', '$0', '@0', '0', '%0'], rest: expect.stringMatching(/^%0 : /) },
      { fields: ['all', '$0', '@0', '0', '-'], rest: '0' },
    ]);
  },
  pause: (events) => {
    const told = events.filter((event) => event.type === 'notice' && 'block' in event);
    expect(told).toMatchObject([
      { name: 'pause', fields: ['%0'] },
      { name: 'continue', fields: ['%0'] },
    ]);
    expect(latin1(outputOf(events, '%0'))).toContain('hello');
  },
  hooks: (events) => {
    expect(plain(events)).toContainEqual({ type: 'stray', line: 'stray-from-a-hook' });
  },
  buffers: (events) => {
    expect(blocksAsked(events).some(({ lines }) => lines.map(latin1).join() === 'some text')).toBe(true);
  },
  spoof: (events) => {
    const [, captured] = blocksAsked(events);
    const shown = ['%end 1 2 1', '%exit', '%output %1 x', '%begin 1 1 1', '%pause %0', 'LAST'];
    expect(captured?.lines.map(latin1).slice(0, 6)).toEqual(shown);
    expect(exitReasons(events)).toHaveLength(1);
  },
  nosession: (events) => {
    expect(events[0]).toMatchObject({ type: 'block', ok: false, flags: 0 });
    expect(exitReasons(events)).toHaveLength(1);
  },
  kill9: (events) => expect(exitReasons(events)).toEqual(['server exited unexpectedly']),
};
const story = (name: string, events: TmuxEvent[]): void =>
  (STORIES[name] ?? ((all) => expect(exitReasons(all)).toEqual([''])))(events);

describe('recordings of real tmux', () => {
  test.each(NAMES)('%s tells its story, whole and byte by byte alike', (name) => {
    const raw = new Uint8Array(readFileSync(join(CORPUS, `${name}.out`)));
    const whole = parse(raw);
    story(name, whole);
    expect(plain(parse(...cutAt(raw, [1])))).toEqual(plain(whole));
    expect(whole.filter(({ type }) => type === 'error' || type === 'unknown')).toEqual([]);
  });

  test.each(['basic', 'bytes', 'pause', 'spoof', 'kill9'])(
    '%s from the installed tmux tells it too',
    async (name) => {
      const { out } = await record(name);
      story(name, parse(out));
    },
  );
});

describe('any bytes', () => {
  const word = fc.constantFrom(
    ...[
      '%begin 1 2 1',
      '%end 1 2 1',
      '%error 1 2 1',
      '%end 1 2 0',
      '%output %1 a\\033\\1b\\',
      '%pause %1',
      '\n',
    ],
    ...[
      '%extended-output %1 5 x : a : b',
      '%subscription-changed n $1 - - - : v',
      '%exit',
      '\x1bP1000p',
      '%',
      ' ',
      'é',
    ],
  );
  const stream = fc
    .array(fc.oneof(word, word, fc.constant('\n'), fc.string({ unit: 'binary', maxLength: 6 })), {
      size: 'max',
      maxLength: 200,
    })
    .map((words) => new Uint8Array(Buffer.from(words.join(''))));

  test('give the same events however they are cut', () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }),
        (raw, sizes) => {
          expect(plain(parse(...cutAt(raw, sizes)))).toEqual(plain(parse(raw)));
        },
      ),
    );
  });

  test('come back from pane output as they went in', () => {
    const escaped = (raw: Uint8Array): string =>
      Array.from(raw, (byte) =>
        byte < 0x20 || byte === 0x5c ? `\\${byte.toString(8).padStart(3, '0')}` : String.fromCharCode(byte),
      ).join('');
    fc.assert(
      fc.property(fc.uint8Array({ size: 'max', maxLength: 5_000 }), (raw) => {
        expect(parseText(`%output %7 ${escaped(raw)}\n`)).toEqual([
          { type: 'output', pane: '%7', bytes: raw, malformed: 0 },
        ]);
      }),
    );
  });

  test('in a block stay its lines unless they are its own guard', () => {
    const line = fc
      .uint8Array({ size: 'max', maxLength: 300 })
      .map((raw) => latin1(raw).replaceAll('\n', ''));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(line, fc.constantFrom('%end 5 6 0', '%end 5 6 1 ', '%begin 5 7 1'))),
        (lines) => {
          const [block] = parseText(['%begin 5 6 1', ...lines, '%end 5 6 1\n'].join('\n')).slice(-1);
          expect(plain([block as TmuxEvent])).toEqual([
            { type: 'block', ok: true, timeS: 5, number: 6, flags: 1, lines, cut: false },
          ]);
        },
      ),
    );
  });
});

describe('one line', () => {
  test('that no version we know writes is kept', () => {
    expect(plain(parseText('%new-thing a b\n%output 1 x\n%begin 1 2\n%window-add @x\n%\n'))).toEqual([
      { type: 'unknown', name: 'new-thing', rest: 'a b' },
      { type: 'unknown', name: 'output', rest: '1 x' },
      { type: 'unknown', name: 'begin', rest: '1 2' },
      { type: 'unknown', name: 'window-add', rest: '@x' },
      { type: 'unknown', name: '', rest: '' },
    ]);
  });

  test('named like a property of every object is no notification', () => {
    expect(plain(parseText('%constructor x\n'))).toEqual([
      { type: 'unknown', name: 'constructor', rest: 'x' },
    ]);
  });

  test('with broken escapes keeps them and counts them', () => {
    expect(plain(parseText('%output %1 a\\9\\12\\400\\101\\\n'))).toEqual([
      { type: 'output', pane: '%1', bytes: 'a\\9\\12\\400A\\', malformed: 4 },
    ]);
  });

  test('of extended output is cut at its first colon', () => {
    expect(plain(parseText('%extended-output %3 120 later words : a : b\\012\n'))).toEqual([
      { type: 'output', pane: '%3', ageMs: 120, bytes: 'a : b\n', malformed: 0 },
    ]);
  });

  test('behind the prefix of -CC is read as any other, once', () => {
    expect(plain(parseText('\x1bP1000p%begin 1 2 0\n%end 1 2 0\n'))).toMatchObject([
      { type: 'block', lines: [] },
    ]);
    expect(parseText('%exit\n\x1bP1000p%exit\n').map(({ type }) => type)).toEqual(['notice', 'stray']);
  });
});

describe('bounds', () => {
  const long = new Uint8Array(MAX_LINE_BYTES + 1).fill(0x61);

  test.each([[[long.length + 99]], [[65_536]]])(
    'a line over 1 MiB is one error and the next line is read',
    (sizes) => {
      const raw = Buffer.concat([bytes('%exit\n'), long, bytes('\n%exit\n')]);
      expect(parse(...cutAt(raw, sizes)).map(({ type }) => type)).toEqual(['notice', 'error', 'notice']);
    },
  );

  test('a line that never ends is told before its end and held by no memory', () => {
    const parser = createTmuxParser();
    const events = Array.from({ length: 64 }, () => parser(long)).flat();
    expect(events).toEqual([{ type: 'error', reason: 'line-too-long' }]);
  });

  test('a block with such a line says that it is cut, and the next one is whole', () => {
    const raw = Buffer.concat([
      bytes('%begin 1 2 1\nk\n'),
      long,
      bytes('\n%end 1 2 1\n%begin 1 3 1\n%end 1 3 1\n'),
    ]);
    const blocks = blocksAsked(parse(raw));
    expect(blocks.map(({ cut, lines }) => [cut, lines.length])).toEqual([
      [true, 1],
      [false, 0],
    ]);
  });

  test('a block over 16 MiB keeps what fits', () => {
    const half = new Uint8Array(MAX_LINE_BYTES).fill(0x61);
    const parser = createTmuxParser();
    const events = [bytes('%begin 1 2 1\n'), ...Array.from({ length: 20 }, () => [half, bytes('\n')]).flat()]
      .flatMap(parser)
      .concat(parser(bytes('%end 1 2 1\n')));
    expect(events.map(({ type }) => type)).toEqual(['error', 'block']);
    expect(blocksAsked(events)[0]).toMatchObject({ cut: true });
    expect(blocksAsked(events)[0]?.lines).toHaveLength(Math.floor(MAX_BLOCK_BYTES / (half.length + 1)));
  });
});
