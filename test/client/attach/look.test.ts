import { describe, expect, test } from 'vitest';
import { look } from '../../../src/client/attach/look.ts';
import type { Ended, Visit, Way } from '../../../src/client/attach/visit.ts';
import type { HereTerminal } from '../../../src/client/terminal/here.ts';
import { KhloneError } from '../../../src/protocol/error.ts';

/** Looking over ways that break, hang, end and lie: what is asked again, what is told, and that `~.` always leaves. */

const away = (): KhloneError => new KhloneError('unreachable', 'not there');

/** A terminal that notes what is drawn and said, and whose keys the test presses. */
const createTerminal = () => {
  const drawn: string[] = [];
  const said: string[] = [];
  let take: (bytes: Uint8Array) => void = () => {};
  const here: HereTerminal = {
    size: () => ({ columns: 80, rows: 24 }),
    onKeys: (given) => {
      take = given;
    },
    onResize: () => {},
    onResume: () => {},
    suspend: () => {},
    draw: async (bytes) => void drawn.push(Buffer.from(bytes).toString()),
    say: (text) => void said.push(text),
    giveBack: () => {},
  };
  return { here, drawn, said, type: (text: string) => take(Buffer.from(text)) };
};

const visitOf = (output: AsyncIterable<Uint8Array>, typed: string[] = []): Visit => ({
  output,
  type: (bytes) => void typed.push(Buffer.from(bytes).toString()),
  resize: () => {},
  close: () => {},
});

async function* pieces(...texts: (string | KhloneError | Promise<never>)[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) {
    if (text instanceof KhloneError) throw text;
    yield typeof text === 'string' ? Buffer.from(text) : await text;
  }
}

/** A way whose openings and ends go by these lists; the last one of each is for all that follow. */
const wayOf = (opens: (() => Promise<Visit>)[], ends: (() => Promise<Ended>)[]) => {
  const count = { opened: 0, asked: 0 };
  const next = <T>(list: (() => Promise<T>)[], n: number): Promise<T> =>
    (list[n] ?? list.at(-1) ?? never)() as Promise<T>;
  const way: Way = { open: () => next(opens, count.opened++), end: () => next(ends, count.asked++) };
  return { way, count };
};
const never = (): Promise<never> => new Promise(() => {});
const left = async (): Promise<Ended> => ({ parting: 'left' });
const shows =
  (...texts: (string | KhloneError | Promise<never>)[]) =>
  async () =>
    visitOf(pieces(...texts));
const fails = (why: KhloneError) => (): Promise<never> => Promise.reject(why);
const lines = { reconnecting: (s: number) => `away ${s}`, help: () => 'help', anywhere: false };
const calm = new AbortController().signal;

describe('a way that breaks', () => {
  test('is opened again until it holds, and each break is told', async () => {
    const at = createTerminal();
    const { way, count } = wayOf([shows('one', away()), fails(away()), shows('two')], [left]);
    expect(await look(way, at.here, lines, calm)).toEqual({ parting: 'left' });
    expect(at.drawn).toEqual(['one', 'two']);
    expect(at.said).toEqual(['away 0', 'away 0']);
    expect(count.opened).toBe(3);
  });

  test('is told soon where it never held', async () => {
    const { way, count } = wayOf([fails(away())], [left]);
    await expect(look(way, createTerminal().here, lines, calm)).rejects.toMatchObject({
      code: 'unreachable',
    });
    expect(count.opened).toBe(4);
  });

  test('is told at once where only a person can mend it', async () => {
    const refused = new KhloneError('ssh-auth', 'refused');
    const { way, count } = wayOf([shows('one', away()), fails(refused)], [left]);
    await expect(look(way, createTerminal().here, lines, calm)).rejects.toBe(refused);
    expect(count.opened).toBe(2);
  });

  test('at the very end is asked how it ended, and not opened anew', async () => {
    const { way, count } = wayOf(
      [shows('one')],
      [fails(away()), async () => ({ parting: 'exited', exitCode: 3 })],
    );
    expect(await look(way, createTerminal().here, lines, calm)).toEqual({ parting: 'exited', exitCode: 3 });
    expect(count).toEqual({ opened: 1, asked: 2 });
  });
});

test('a tmux that died is opened again, and one that dies again and again is a fault', async () => {
  const lost = async (): Promise<Ended> => ({ parting: 'lost' });
  const once = wayOf([shows('one'), shows('two')], [lost, left]);
  expect(await look(once.way, createTerminal().here, lines, calm)).toEqual({ parting: 'left' });
  const always = wayOf([shows('one')], [lost]);
  await expect(look(always.way, createTerminal().here, lines, calm)).rejects.toMatchObject({
    code: 'tmux-failed',
  });
  expect(always.count.opened).toBe(5);
});

describe('~.', () => {
  test.each([
    ['while an opening hangs', [never]],
    ['while nothing is drawn', [shows('one', never())]],
    ['while it is opened again', [shows('one', away()), never]],
  ] as const)('leaves %s', async (_when, opens) => {
    const at = createTerminal();
    const { way } = wayOf([...opens], [left]);
    const looking = look(way, at.here, lines, calm);
    await new Promise((resolve) => setImmediate(resolve));
    at.type('~.');
    expect(await looking).toBe('here');
  });

  test('and a signal leave while the question how it ended hangs', async () => {
    const leave = new AbortController();
    const { way } = wayOf([shows('one')], [never]);
    const looking = look(way, createTerminal().here, lines, leave.signal);
    await new Promise((resolve) => setImmediate(resolve));
    leave.abort();
    expect(await looking).toBe('here');
  });
});

test('keys go to what is looked at, and nowhere while it is away', async () => {
  const at = createTerminal();
  const typed: string[] = [];
  const broken = Promise.withResolvers<never>();
  const back = Promise.withResolvers<Visit>();
  const { way } = wayOf(
    [async () => visitOf(pieces('one', broken.promise), typed), () => back.promise],
    [left],
  );
  const looking = look(way, at.here, lines, calm);
  await expect.poll(() => at.drawn).toEqual(['one']);
  at.type('before');
  broken.reject(away());
  await expect.poll(() => at.said).toEqual(['away 0']);
  at.type('lost');
  back.resolve(visitOf(pieces('two', never()), typed));
  await expect.poll(() => at.drawn).toEqual(['one', 'two']);
  at.type('after\r~.');
  expect(await looking).toBe('here');
  expect(typed).toEqual(['before', 'after\r']);
});
