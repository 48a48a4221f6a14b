import { afterEach, describe, expect, test } from 'vitest';
import { KhloneError } from '../../src/protocol/error.ts';
import { WINDOW_BYTES } from '../../src/protocol/limits.ts';
import { type Body, createPeer, type Handlers, items } from '../../src/protocol/peer.ts';
import { peers, slowPair, until } from './wire.ts';

const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

const pair = async (handlers: Handlers, own: Handlers = {}) => {
  const both = await peers(handlers, own);
  open.push(both.close);
  return both;
};

const never = new Promise<never>(() => undefined);

async function* pieces(count: number, bytes: number): Body & AsyncGenerator<Uint8Array> {
  for (let index = 0; index < count; index++) yield Buffer.alloc(bytes, index);
}

const bytesOf = async (body: Body | undefined): Promise<number> => {
  let bytes = 0;
  for await (const piece of body ?? []) bytes += piece.length;
  return bytes;
};

/** A source that never ends by itself and tells what happened to it. */
const endless = (bytes: number) => {
  const told = { pulled: 0, returned: false };
  const body: Body = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        told.pulled += bytes;
        return { done: false, value: Buffer.alloc(bytes) };
      },
      return: async () => {
        told.returned = true;
        return { done: true, value: undefined };
      },
    }),
  };
  return { body, told };
};

describe('bodies', () => {
  test('travel whole with a call and with an answer', async () => {
    const { near } = await pair({
      count: async ({ body }) => ({ value: await bytesOf(body) }),
      give: () => ({ value: 'here', body: pieces(300, 50_001) }),
    });
    expect((await near.call('count', {}, { body: pieces(300, 50_001) })).value).toBe(300 * 50_001);
    const { value, body } = await near.call('give', {});
    expect(value).toBe('here');
    expect(await bytesOf(body)).toBe(300 * 50_001);
  });

  test('keep their bytes in order whatever the size of the pieces', async () => {
    const sent = Array.from({ length: 3_000 }, (_, index) => Buffer.alloc((index * 7919) % 900, index));
    const { near } = await pair({
      give: () => ({
        value: null,
        body: (async function* () {
          yield* sent;
        })(),
      }),
    });
    const { body } = await near.call('give', {});
    const got: Uint8Array[] = [];
    for await (const piece of body ?? []) got.push(piece);
    expect(Buffer.concat(got).equals(Buffer.concat(sent))).toBe(true);
  });

  test('of a stalled reader cost the window and no more, while others go on', async () => {
    const { body, told } = endless(8_192);
    const { near } = await pair({
      endless: () => ({ value: null, body }),
      give: () => ({ value: null, body: pieces(400, 50_000) }),
    });
    const stalled = await near.call('endless', {});
    await until(() => told.pulled >= WINDOW_BYTES.bulk);
    expect(await bytesOf((await near.call('give', {})).body)).toBe(20_000_000);
    expect(told.pulled).toBe(WINDOW_BYTES.bulk);
    for await (const _ of stalled.body ?? []) break;
    await until(() => told.returned);
  });

  test('end their source when the reader leaves, or the connection ends', async () => {
    const [first, second] = [endless(1_000), endless(1_000)];
    const { near } = await pair({
      first: () => ({ value: null, ...first }),
      second: () => ({ value: null, ...second }),
    });
    const left = await near.call('first', {});
    for await (const _ of left.body ?? []) break;
    await until(() => first.told.returned);
    await near.call('second', {});
    expect(second.told.returned).toBe(false);
    near.close();
    await until(() => second.told.returned);
  });

  test('break with the error their source throws', async () => {
    const { near } = await pair({
      broken: () => ({
        value: null,
        body: (async function* () {
          yield Buffer.from('part');
          throw new KhloneError('disk-low', 'no room');
        })(),
      }),
    });
    const { body } = await near.call('broken', {});
    await expect(bytesOf(body)).rejects.toMatchObject({ code: 'disk-low', message: 'no room' });
  });

  test('of a call are left when the handler answers without reading them', async () => {
    const { body, told } = endless(1_000);
    const { near } = await pair({ ignore: () => ({ value: 'no thanks' }) });
    expect((await near.call('ignore', {}, { body })).value).toBe('no thanks');
    await until(() => told.returned);
  });

  test('break for their reader when the connection ends, unless they had arrived whole', async () => {
    const { near, far } = await pair({
      endless: () => ({ value: null, body: endless(1_000).body }),
      give: () => ({ value: null, body: pieces(3, 10) }),
    });
    const whole = await near.call('give', {});
    const cut = await near.call('endless', {});
    await near.call('$/ping', null);
    far.close();
    await near.closed;
    await expect(bytesOf(cut.body)).rejects.toMatchObject({ code: 'unreachable' });
    expect(await bytesOf(whole.body)).toBe(30);
  });

  test('let a key press overtake a bulk transfer on a slow line', async () => {
    const [nearEnd, farEnd] = slowPair(2_000_000);
    const key = { echo: ({ params }) => ({ value: params }) } satisfies Handlers;
    let bulkMs = 0;
    const far = createPeer(farEnd, {
      ...key,
      take: async ({ body }) => ({ value: await bytesOf(body) }),
      type: ({ body }) => ({ value: null, klass: 'interactive', ...(body ? { body } : {}) }),
    });
    const near = createPeer(nearEnd, {}, { bulkWindowBytes: () => 64 * 1024 });
    open.push(
      () => near.close(),
      () => far.close(),
    );
    const beganMs = performance.now();
    const bulk = near.call('take', {}, { body: pieces(40, 100_000) }).then((answer) => {
      bulkMs = performance.now() - beganMs;
      return answer.value;
    });
    const waits: number[] = [];
    for (let index = 0; index < 8; index++) {
      const sentMs = performance.now();
      await near.call('echo', index);
      waits.push(performance.now() - sentMs);
    }
    const typed = await near.call('type', {}, { body: pieces(4, 100), klass: 'interactive' });
    expect(await bytesOf(typed.body)).toBe(400);
    expect(bulkMs).toBe(0);
    expect(await bulk).toBe(4_000_000);
    expect(bulkMs).toBeGreaterThan(1_500);
    expect(waits.sort((a, b) => a - b)[4]).toBeLessThan(bulkMs / 8);
  });
});

describe('subscriptions', () => {
  test('give every item in order and end with their source', async () => {
    const { near } = await pair({
      subscribe: ({ params }) => ({
        value: null,
        body: items(
          (async function* () {
            for (let seq = 0; seq < Number(params); seq++)
              yield { epoch: 'e', seq, text: 'ä'.repeat(seq % 200) };
          })(),
        ),
      }),
    });
    let next = 0;
    for await (const item of near.subscribe(5_000, new AbortController().signal)) {
      expect(item).toEqual({ epoch: 'e', seq: next, text: 'ä'.repeat(next % 200) });
      next++;
    }
    expect(next).toBe(5_000);
  });

  test('wake and end a source that waits when the reader leaves', async () => {
    let woken = false;
    const { near } = await pair({
      subscribe: ({ signal }) => ({
        value: null,
        body: items(
          (async function* () {
            yield { seq: 1 };
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            woken = true;
          })(),
        ),
      }),
    });
    for await (const _ of near.subscribe({}, new AbortController().signal)) break;
    await until(() => woken);
  });

  test('end with interrupted at the signal, with unreachable when the connection is lost', async () => {
    const { near, sockets } = await pair({
      subscribe: () => ({
        value: null,
        body: items(
          (async function* () {
            yield { seq: 1 };
            await never;
          })(),
        ),
      }),
    });
    const controller = new AbortController();
    const read = async (onItem: () => void, signal: AbortSignal) => {
      for await (const _ of near.subscribe({}, signal)) onItem();
    };
    await expect(read(() => controller.abort(), controller.signal)).rejects.toMatchObject({
      code: 'interrupted',
    });
    const lost = read(() => sockets[1].destroy(), new AbortController().signal);
    await expect(lost).rejects.toMatchObject({ code: 'unreachable' });
  });
});
