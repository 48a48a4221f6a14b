import { afterEach, describe, expect, test } from 'vitest';
import { KhloneError } from '../../src/protocol/error.ts';
import { CALLS_IN_FLIGHT, CONTROL_FRAME_BYTES } from '../../src/protocol/limits.ts';
import type { Handlers } from '../../src/protocol/peer.ts';
import { peers, until } from './wire.ts';

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

describe('calls', () => {
  test('are answered in both directions at the same time', async () => {
    const { near } = await pair(
      { ask: async ({ params, peer }) => ({ value: [params, (await peer.call('back', 'b')).value] }) },
      { back: ({ params }) => ({ value: `${params}!` }) },
    );
    const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => near.call('ask', index)));
    expect(answers.map((answer) => answer.value)).toEqual(
      Array.from({ length: 50 }, (_, index) => [index, 'b!']),
    );
  });

  test('bring our errors back with code, hint and data, and a stranger without its stack', async () => {
    const faults: unknown[] = [];
    const { near, close } = await peers(
      {
        ours: () => {
          throw new KhloneError('queue-full', 'full', 'wait', { limit: 3 });
        },
        strange: async () => {
          throw new TypeError('boom');
        },
      },
      {},
      { onFault: (method, thrown) => faults.push([method, thrown]) },
    );
    open.push(close);
    await expect(near.call('ours', {})).rejects.toMatchObject({
      code: 'queue-full',
      message: 'full',
      hint: 'wait',
      data: { limit: 3 },
    });
    const strange = await near.call('strange', {}).catch((error: KhloneError) => error);
    expect(strange).toMatchObject({ code: 'internal', message: 'boom', data: undefined });
    expect(faults).toEqual([['strange', expect.any(TypeError)]]);
  });

  test('of an unknown name are refused, names of Object.prototype too', async () => {
    const { near } = await pair({});
    for (const name of ['nope', 'toString', '__proto__', 'constructor']) {
      await expect(near.call(name, {})).rejects.toMatchObject({ code: 'unknown-method' });
    }
  });

  test('time out, and the handler is told', async () => {
    let signal: AbortSignal | undefined;
    const { near } = await pair({
      wait: (call) => {
        signal = call.signal;
        return never;
      },
    });
    await expect(near.call('wait', {}, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'timeout' });
    await until(() => signal?.aborted === true);
  });

  test('end with interrupted when the caller aborts, before or after sending', async () => {
    let cancelled = false;
    const { near } = await pair({
      wait: ({ signal }) => {
        signal.addEventListener('abort', () => {
          cancelled = true;
        });
        return never;
      },
    });
    const controller = new AbortController();
    const call = near.call('wait', {}, { signal: controller.signal });
    await near.call('$/ping', null);
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: 'interrupted' });
    await until(() => cancelled);
    await expect(near.call('wait', {}, { signal: controller.signal })).rejects.toMatchObject({
      code: 'interrupted',
    });
  });

  test('end with unreachable when the connection does, and handlers are aborted', async () => {
    let signal: AbortSignal | undefined;
    const { near, far, sockets } = await pair({
      wait: (call) => {
        signal = call.signal;
        return never;
      },
    });
    const call = near.call('wait', {});
    await near.call('$/ping', null);
    sockets[0].destroy();
    await expect(call).rejects.toMatchObject({ code: 'unreachable' });
    await expect(near.call('wait', {})).rejects.toMatchObject({ code: 'unreachable' });
    await far.closed;
    expect(signal?.aborted).toBe(true);
  });

  test('over the number in flight are refused on the spot', async () => {
    const { near } = await pair({ wait: () => never });
    const calls = Array.from({ length: CALLS_IN_FLIGHT }, () => near.call('wait', {}));
    await expect(near.call('wait', {})).rejects.toMatchObject({ code: 'rate-limited' });
    near.close(new KhloneError('shutting-down', 'bye'));
    const ends = await Promise.allSettled(calls);
    expect(ends.every((end) => end.status === 'rejected' && end.reason.code === 'shutting-down')).toBe(true);
  });

  test('too large for a frame fail alone, in either direction', async () => {
    const { near } = await pair({
      large: () => ({ value: 'x'.repeat(CONTROL_FRAME_BYTES) }),
      echo: ({ params }) => ({ value: params }),
    });
    await expect(near.call('echo', 'x'.repeat(CONTROL_FRAME_BYTES))).rejects.toMatchObject({
      code: 'too-large',
    });
    await expect(near.call('large', {})).rejects.toMatchObject({ code: 'too-large' });
    expect((await near.call('echo', 'still here')).value).toBe('still here');
  });

  test('with a value nested too deep fail alone, in either direction', async () => {
    const nest = (levels: number): unknown => (levels ? [nest(levels - 1)] : 'x');
    const { near } = await pair({
      deep: () => ({ value: nest(64) }),
      echo: ({ params }) => ({ value: params }),
    });
    await expect(near.call('echo', nest(64))).rejects.toMatchObject({ code: 'invalid-request' });
    await expect(near.call('deep', {})).rejects.toMatchObject({ code: 'invalid-request' });
    expect((await near.call('echo', nest(60))).value).toEqual(nest(60));
  });

  test('queued before a close are still answered', async () => {
    const { near } = await pair({
      stop: ({ peer }) => {
        setImmediate(() => setImmediate(() => peer.close()));
        return { value: 'stopped' };
      },
    });
    expect((await near.call('stop', {})).value).toBe('stopped');
    expect(await near.closed).toBeUndefined();
  });

  test('and notices arrive in the order they were made', async () => {
    const seen: unknown[] = [];
    const note: Handlers['note'] = ({ params }) => {
      seen.push(params);
      return { value: null };
    };
    const { near } = await pair({ note });
    for (let index = 0; index < 100; index++) near.notify('note', index);
    await near.call('note', 100);
    expect(seen).toEqual(Array.from({ length: 101 }, (_, index) => index));
  });
});
