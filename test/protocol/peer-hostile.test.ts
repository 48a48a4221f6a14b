import { once } from 'node:events';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createFrameDecoder,
  encodeControl,
  encodeCredit,
  encodeFrame,
  FRAME_TYPES,
  type FrameType,
} from '../../src/protocol/frame.ts';
import { CALLS_IN_FLIGHT, DATA_FRAME_BYTES, WINDOW_BYTES } from '../../src/protocol/limits.ts';
import { createPeer, type Handlers } from '../../src/protocol/peer.ts';
import { peers, socketPair, until } from './wire.ts';

const handlers: Handlers = {
  echo: ({ params }) => ({ value: params ?? null }),
  wait: () => new Promise(() => undefined),
  read: async ({ body }) => {
    let bytes = 0;
    for await (const piece of body ?? []) bytes += piece.length;
    return { value: bytes };
  },
  keep: () => new Promise(() => undefined),
  give: () => ({
    value: null,
    body: (async function* () {
      for (let index = 0; index < 50; index++) yield Buffer.alloc(1_000);
    })(),
  }),
};

/** A raw socket against a peer: what it answers is collected as JSON. */
const hostile = async () => {
  const [raw, socket] = await socketPair();
  const peer = createPeer(socket, handlers);
  const heard: Record<string, unknown>[] = [];
  const decode = createFrameDecoder();
  raw.on('data', (chunk) => {
    for (const frame of decode(chunk))
      if (frame.type === 'control') heard.push(JSON.parse(String(frame.payload)));
  });
  raw.on('error', () => undefined);
  const say = (...messages: unknown[]) =>
    raw.write(Buffer.concat(messages.map((message) => encodeControl(JSON.stringify(message)))));
  return { raw, peer, heard, say };
};

const call = (id: unknown, method: string, more: object = {}) => ({
  jsonrpc: '2.0',
  id,
  method,
  params: {},
  ...more,
});

describe('a hostile peer', () => {
  test('with bad JSON is told so and cut off', async () => {
    const { raw, peer, heard } = await hostile();
    raw.write(encodeFrame('control', 0, Buffer.from('{"jsonrpc":')));
    expect(await peer.closed).toMatchObject({ code: 'parse-error' });
    await once(raw, 'close');
    expect(heard).toEqual([
      expect.objectContaining({ id: null, error: expect.objectContaining({ code: -32700 }) }),
    ]);
  });

  test('with wrong messages is refused and the connection goes on', async () => {
    const { raw, heard, say } = await hostile();
    const deep = `{"jsonrpc":"2.0","id":5,"method":"echo","params":${'['.repeat(500_000)}${']'.repeat(500_000)}}`;
    say([call(1, 'echo')], 77, { ...call(2, 'echo'), jsonrpc: '1.0' }, call({}, 'echo'), call(3, 'nope'));
    say({ jsonrpc: '2.0', id: 4, method: 9 }, { jsonrpc: '2.0', id: 99, result: 1 }, { jsonrpc: '2.0' });
    raw.write(encodeControl(deep));
    say(call(6, 'echo'));
    await until(() => heard.some((message) => message.id === 6));
    const codes = heard.map((message) => [message.id, (message.error as { code?: number })?.code]);
    expect(codes).toEqual([
      [null, -32600],
      [null, -32600],
      [2, -32600],
      [null, -32600],
      [3, -32601],
      [4, -32600],
      [5, -32600],
      [6, undefined],
    ]);
    raw.destroy();
  });

  test('with too many calls in flight is refused the next', async () => {
    const { raw, heard, say } = await hostile();
    say(...Array.from({ length: CALLS_IN_FLIGHT }, (_, id) => call(id, 'wait')));
    say(call('over', 'echo'), call(0, 'wait'), { jsonrpc: '2.0', method: '$/cancel', params: { id: 1 } });
    await until(() => heard.length >= 2);
    expect(heard[0]).toMatchObject({ id: 'over', error: { data: { code: 'rate-limited' } } });
    expect(heard[1]).toMatchObject({ id: 0, error: { data: { code: 'invalid-request' } } });
    raw.destroy();
  });

  test('that sends past a window is cut off', async () => {
    const { raw, peer, say } = await hostile();
    say(call(1, 'keep', { body: { stream: 1, klass: 'interactive' } }));
    const slice = encodeFrame('data', 1, Buffer.alloc(DATA_FRAME_BYTES));
    for (let sent = 0; sent <= WINDOW_BYTES.interactive; sent += DATA_FRAME_BYTES) raw.write(slice);
    expect(await peer.closed).toMatchObject({
      code: 'parse-error',
      message: expect.stringContaining('window'),
    });
  });

  test('that names streams which never were is cut off; closed ones are forgiven', async () => {
    for (const frame of [
      encodeFrame('data', 9, Buffer.of(1)),
      encodeFrame('end', 9),
      encodeCredit(9, 5),
      encodeFrame('stop', 9),
    ]) {
      const { raw, peer } = await hostile();
      raw.write(frame);
      expect(await peer.closed).toMatchObject({ code: 'parse-error' });
      raw.destroy();
    }
    const { raw, heard, say } = await hostile();
    say(call(1, 'echo', { body: { stream: 1 } }));
    raw.write(
      Buffer.concat([encodeFrame('data', 1, Buffer.of(1)), encodeFrame('end', 1), encodeFrame('reset', 1)]),
    );
    say(call(2, 'echo'));
    await until(() => heard.length === 2);
    raw.destroy();
  });

  test('that announces a stream twice is cut off', async () => {
    const { peer, say } = await hostile();
    say(call(1, 'keep', { body: { stream: 3 } }), call(2, 'keep', { body: { stream: 3 } }));
    expect(await peer.closed).toMatchObject({ code: 'parse-error' });
  });

  test('that asks without reading is cut off before its answers fill the memory', async () => {
    const [raw, socket] = await socketPair();
    const peer = createPeer(socket, handlers);
    raw.pause();
    raw.on('error', () => undefined);
    const big = encodeControl(JSON.stringify({ ...call(1, 'echo'), params: 'x'.repeat(1_000_000) }));
    let over = false;
    void peer.closed.then(() => {
      over = true;
    });
    for (let sent = 0; sent < 200 && !over; sent++) {
      if (!raw.write(big)) await Promise.race([once(raw, 'drain'), peer.closed]);
    }
    expect(await peer.closed).toMatchObject({ code: 'rate-limited' });
    raw.destroy();
  });

  test('of random bytes and random frames ends in a closed connection at worst', async () => {
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.json({ maxDepth: 3 }).map((json) => Buffer.from(json)),
      fc
        .record(
          {
            jsonrpc: fc.constantFrom('2.0', '1'),
            id: fc.oneof(fc.nat({ max: 5 }), fc.constantFrom('a', null, {}, -1, 1.5)),
            method: fc.constantFrom('echo', 'wait', 'read', 'give', 'keep', '$/cancel', '$/ping', 'nope', 7),
            params: fc.jsonValue({ maxDepth: 2 }),
            result: fc.jsonValue({ maxDepth: 1 }),
            error: fc.jsonValue({ maxDepth: 1 }),
            body: fc.oneof(
              fc.jsonValue({ maxDepth: 1 }),
              fc.record({ stream: fc.nat({ max: 6 }), klass: fc.constantFrom('bulk', 'interactive', 3) }),
            ),
          },
          { requiredKeys: ['jsonrpc'] },
        )
        .map((message) => Buffer.from(JSON.stringify(message))),
    );
    const frame = fc
      .tuple(fc.constantFrom<FrameType>(...FRAME_TYPES, 'control', 'control'), fc.nat({ max: 6 }), payload)
      .map(([type, stream, bytes]) => encodeFrame(type, stream, bytes));
    const junk = fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes));
    const script = fc.array(fc.oneof({ weight: 9, arbitrary: frame }, { weight: 1, arbitrary: junk }), {
      maxLength: 25,
      size: 'max',
    });
    await fc.assert(
      fc.asyncProperty(script, async (writes) => {
        const { near, far, sockets } = await peers(handlers, handlers);
        // Written beneath the near peer, so that its own frames and the hostile ones mix.
        const pending = Promise.allSettled([
          near.call('give', {}),
          near.call('read', {}, { timeoutMs: 1_000 }),
        ]);
        for (const bytes of writes) sockets[0].write(bytes);
        await Promise.race([
          far.closed,
          near.call('$/ping', null, { timeoutMs: 300 }).catch(() => undefined),
        ]);
        near.close();
        far.close();
        await Promise.all([near.closed, far.closed, pending]);
      }),
      { numRuns: 150 },
    );
  });
});
