import { describe, expect, it } from 'vitest';
import { lateFault } from '../../../src/client/link/away.ts';
import { momentOf, sshFailure, wayFailed } from '../../../src/client/link/ssh-error.ts';

describe('a host that cannot be reached', () => {
  const settings = { alias: 'box', hostname: 'box.example', port: 22 } as Parameters<typeof momentOf>[0];
  const moment = momentOf(settings, 'connect');
  const failure = (code: string) => sshFailure(Object.assign(new Error(`connect ${code}`), { code }), moment);
  const NETWORK = 'is this machine on line? it is tried again by itself, and at once by khlone reconnect';

  it.each([
    ['ENETUNREACH', 'cannot be reached from this network', NETWORK],
    ['ENETDOWN', 'cannot be reached from this network', NETWORK],
    ['EADDRNOTAVAIL', 'cannot be reached from this network', NETWORK],
    ['EAI_AGAIN', 'cannot be looked up: no name server answers', NETWORK],
    ['ETIMEDOUT', 'does not answer', NETWORK],
    [
      'ECONNREFUSED',
      'refuses connections',
      'is its sshd running, on this port? Try: ssh box; khlone reconnect tries again',
    ],
    ['ENOTFOUND', 'has no address', 'look at its name: ssh -G box'],
  ])('for %s is told in plain words with the next step', (code, says, hint) => {
    expect(failure(code)).toMatchObject({
      ...{ code: 'unreachable', message: `box (box.example:22) ${says}`, hint },
      data: { stage: 'connect' },
    });
  });

  it('is told in plain words where it hung up before anything was said', () => {
    const lost = Object.assign(new Error('Connection lost before handshake'), { level: 'protocol' });
    const { message } = sshFailure(lost, { ...moment, stage: 'handshake' });
    expect(message).toBe('box (box.example:22) closed the connection before the login');
  });

  it('is told without the words of the protocol where the line went away in the middle of a login', () => {
    const late = (stage: 'handshake' | 'login') => wayFailed({ ...moment, stage }, lateFault(stage, 10_000));
    expect(late('handshake')).toMatchObject({
      message: 'box (box.example:22) stopped answering: the login did not begin within 10 s',
      hint: NETWORK,
      // By which retries are spaced: sshd was reached.
      data: { stage: 'handshake' },
    });
    expect(late('login').message).toContain('the login did not end within 10 s');
  });
});
