import type { Duplex } from 'node:stream';
import { CALLS } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { HELLO_DEADLINE_MS, PROTOCOL } from '../../protocol/limits.ts';
import { createPeer } from '../../protocol/peer.ts';
import type { Connected } from './link.ts';

/** The first words of a connection: who the server is, and whether our build takes its place. */

/** `rttMs`: one round trip, where the way there measured it. */
export type Wire = { duplex: Duplex; close(): void; rttMs?: number } & Pick<Connected, 'openPty' | 'spawn'>;

export type Greeted = { made: Connected; wire: Wire };

/** What is greeted with: our build, and whether the server is on this machine. */
export type Greeter = { build: string; local: boolean };

const hello = async (duplex: Duplex, build: string): Promise<Connected> => {
  const peer = createPeer(duplex, {});
  try {
    const params = { proto: [PROTOCOL.min, PROTOCOL.max], build };
    const { value } = await peer.call('hello', params, { timeoutMs: HELLO_DEADLINE_MS });
    const facts = CALLS.hello.answer.safeParse(value);
    if (!facts.success)
      throw new KhloneError('version', 'the server answers in an unknown way', 'upgrade khlone');
    return { peer, server: facts.data };
  } catch (error) {
    peer.close();
    throw error;
  }
};

/** `1.2.3+hash` as numbers, without the hash. */
const numbers = (build: string): number[] => (build.split('+')[0] ?? '').split('.').map(Number);

/** Whether our build should take the place of the server's: newer, or, on this machine, another build of the same version. */
const shouldReplace = ({ build, local }: Greeter, theirs: string): boolean => {
  const [a, b] = [numbers(build), numbers(theirs)];
  const differs = a.findIndex((n, i) => n !== b[i]);
  if (differs < 0) return local && build !== theirs;
  return (a[differs] ?? 0) > (b[differs] ?? 0);
};

const helloOver = async (wire: Wire, build: string): Promise<Connected> => {
  try {
    const { openPty, spawn } = wire;
    return { ...(await hello(wire.duplex, build)), ...(openPty && { openPty }), ...(spawn && { spawn }) };
  } catch (error) {
    wire.close();
    throw error;
  }
};

/** An older server has this long to make room; one that stays is used as it is. */
const ROOM_WITHIN_MS = 10_000;

/** Asks an older server to make room, its clones going on. Whatever it does, nothing of this connection is left. */
const makeRoom = async ({ made, wire }: Greeted): Promise<void> => {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, ROOM_WITHIN_MS);
  try {
    await made.peer.call('stop', { keep: true }, { timeoutMs: ROOM_WITHIN_MS });
    await Promise.race([made.peer.closed, late.promise]);
  } finally {
    clearTimeout(timer);
    made.peer.close();
    wire.close();
  }
};

/** Dials and says hello. An older server is asked to make room, its clones going on, and the next dial starts ours. */
export const greet = async (
  dial: () => Promise<Wire>,
  greeter: Greeter,
  mayReplace = true,
): Promise<Greeted> => {
  const wire = await dial();
  const made = await helloOver(wire, greeter.build);
  if (!mayReplace || !shouldReplace(greeter, made.server.build)) return { made, wire };
  await makeRoom({ made, wire });
  return greet(dial, greeter, false);
};
