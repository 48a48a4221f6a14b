import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { createChannels } from '../../../src/client/hub/attach-channel.ts';
import type { Connected } from '../../../src/client/link/link.ts';
import type { RemoteProcess } from '../../../src/client/link/ssh-relay.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { until } from '../../fixtures/khlone.ts';

/** Terminals on channels of their own: when there is one, and what becomes of one that nobody waits for any more. */

const NONCE = '0123456789abcdef0123456789abcdef';
const PARAMS = {
  ...{ zone: 'z-0123456789abcdef', viewer: 'v-0123456789abcdef', sight: { kind: 'shell' } },
  terminal: { columns: 80, rows: 24, term: 'xterm', utf8: true },
};
const ANSWER = { argv: ['perl'], env: { PATH: '/usr/bin' }, nonce: NONCE, typed: { of: 'a', bytes: 5 } };

const world = (answer: () => unknown) => {
  let calls = 0;
  const ended = Promise.withResolvers<{ code: number | null; lost: boolean }>();
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  let killed = 0;
  const process: RemoteProcess = {
    ...streams,
    ended: ended.promise,
    kill: () => {
      killed += 1;
      ended.resolve({ code: null, lost: true });
    },
  };
  const peer = {
    call: async () => {
      calls += 1;
      return { value: answer(), body: undefined };
    },
  };
  const connected = { peer, spawn: async () => process } as unknown as Connected;
  const leaving = new AbortController();
  const wish = { params: PARAMS, keys: undefined, signal: leaving.signal, withinMs: 5_000 };
  return { connected, wish, leaving, ended, ...streams, calls: () => calls, killed: () => killed };
};

test('a server that does not know the program is asked once a connection', async () => {
  const { connected, wish, calls } = world(() => {
    throw new KhloneError('unknown-method', 'no call is named attach.proxy');
  });
  const channels = createChannels();
  expect(await channels.openProxied(connected, wish)).toBeUndefined();
  expect(await channels.openProxied(connected, wish)).toBeUndefined();
  expect(calls()).toBe(1);
});

test('a viewer that is not there is told as such, and says nothing of the host', async () => {
  const { connected, wish, calls } = world(() => {
    throw new KhloneError('not-found', 'no such clone');
  });
  const channels = createChannels();
  for (let n = 0; n < 2; n += 1)
    await expect(channels.openProxied(connected, wish)).rejects.toMatchObject({ code: 'not-found' });
  expect(calls()).toBe(2);
});

test('what is drawn comes behind the magic line, with how far the viewer came, and a size goes there', async () => {
  const { connected, wish, stdout, stdin, ended } = world(() => ANSWER);
  const channels = createChannels();
  const opening = channels.openProxied(connected, wish);
  stdout.write(`noise of a shell\nkhlone-wire/1 ${NONCE}\npicture`);
  const answer = await opening;
  expect(answer?.value).toEqual({ typed: ANSWER.typed });
  expect(channels.resize({ viewer: PARAMS.viewer, columns: 300, rows: 50 })).toBe(true);
  expect(stdin.read()).toEqual(Buffer.from([0x73, 1, 44, 0, 50]));
  stdout.end();
  ended.resolve({ code: 0, lost: false });
  const drawn: Uint8Array[] = [];
  for await (const piece of answer?.body ?? []) drawn.push(piece);
  expect(Buffer.concat(drawn).toString()).toBe('picture');
  answer?.over();
  expect(channels.resize({ viewer: PARAMS.viewer, columns: 80, rows: 24 })).toBe(false);
});

test('a program that was told to go is no end of the viewer', async () => {
  const { connected, wish, stdout, ended } = world(() => ANSWER);
  const opening = createChannels().openProxied(connected, wish);
  stdout.write(`khlone-wire/1 ${NONCE}\n`);
  const answer = await opening;
  stdout.end();
  ended.resolve({ code: 4, lost: false });
  const read = async (): Promise<void> => {
    for await (const _piece of answer?.body ?? []);
  };
  await expect(read()).rejects.toMatchObject({ code: 'unreachable' });
});

test('whoever leaves meanwhile is not held up, and the terminal that comes late is let go', async () => {
  const { connected, wish, leaving, stdout, killed } = world(() => ANSWER);
  const opening = createChannels().openProxied(connected, wish);
  await new Promise(setImmediate);
  leaving.abort();
  await expect(opening).rejects.toMatchObject({ code: 'interrupted' });
  expect(killed()).toBe(0);
  stdout.write(`khlone-wire/1 ${NONCE}\n`);
  await until('it is let go', () => killed() > 0);
});
