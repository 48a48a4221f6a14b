import { afterEach, expect, it } from 'vitest';
import type { Caller } from '../../src/client/caller.ts';
import { connectWithin } from '../../src/client/dispatch.ts';
import { createLink } from '../../src/client/link/connection.ts';
import type { Link } from '../../src/client/link/link.ts';
import { KhloneError } from '../../src/protocol/error.ts';
import { createPeer } from '../../src/protocol/peer.ts';
import { socketPair } from '../protocol/wire.ts';

/** A person's command that comes while the hub is in the middle of a try of its own. */

const HELLO = { proto: 1, build: '1.0.0', uuid: 'u', boot: 'b', home: '/', host: 'h' };
const caller = { env: {}, ask: undefined, signal: new AbortController().signal, err: () => {} };
const failed = (stage: string) => new KhloneError('unreachable', 'box is away', undefined, { stage });

const links: Link[] = [];
afterEach(() => {
  for (const link of links.splice(0)) link.close();
});

/** A link whose first dial hangs until it fails; each one after it succeeds. */
const linkInTrial = () => {
  const first = Promise.withResolvers<never>();
  let dials = 0;
  const link = createLink({
    ...{ name: 'box', build: '1.0.0', pings: true, events: {} },
    dial: async () => {
      dials += 1;
      if (dials === 1) return first.promise;
      const [near, far] = await socketPair();
      createPeer(far, { hello: () => ({ value: HELLO }) });
      return { duplex: near, close: () => near.destroy() };
    },
  });
  links.push(link);
  const own = link.connect({ env: {}, ask: undefined }).catch(() => {});
  return { link, own, fail: first.reject, dials: () => dials };
};

const wish = (link: Link) => connectWithin(link, caller as unknown as Caller, 5_000);

it('does not share the failure of a try that began before the path was there', async () => {
  const { link, fail, dials } = linkInTrial();
  const connected = wish(link);
  fail(failed('connect'));
  expect((await connected).server.uuid).toBe('u');
  expect(dials()).toBe(2);
});

it('shares the failure of a try that had reached the host: sshd counts them', async () => {
  const { link, fail, dials } = linkInTrial();
  const connected = wish(link);
  fail(failed('login'));
  await expect(connected).rejects.toMatchObject({ code: 'unreachable' });
  expect(dials()).toBe(1);
});

it('tries once where it had the only try', async () => {
  const { link, own, fail, dials } = linkInTrial();
  fail(failed('login'));
  await own;
  expect((await wish(link)).server.uuid).toBe('u');
  expect(dials()).toBe(2);
});
