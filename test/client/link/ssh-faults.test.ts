import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { createStageDeadline } from '../../../src/client/link/ssh-deadline.ts';
import type { Asker } from '../../../src/client/link/ssh-target.ts';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import type { KhloneError } from '../../../src/protocol/error.ts';
import { oddSshd } from '../../fixtures/odd-sshd.ts';
import { afterwards, answering, dialBy, failure, type Open, sshdWith } from '../../fixtures/ssh-wire.ts';
import { type Sshd, sshdMissing } from '../../fixtures/sshd.ts';

const listen = async (server: Server): Promise<number> => {
  afterwards(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};

const trustPort = (sshd: Sshd) => {
  const text = readFileSync(sshd.sshConfig, 'utf8');
  writeFileSync(
    sshd.sshConfig,
    text.replace('Host zone\n', `Host zone\n  HostKeyAlias [127.0.0.1]:${sshd.port}\n`),
  );
};

/** Dials `port` instead of the fixture's own, as the host whose key the fixture's known_hosts holds. */
const dialPort = (sshd: Sshd, port: number, open: Open) => dialBy(open, sshd, { host: `zone:${port}` });

/** A proxy that ends a connection, by `how`, once `afterBytes` came from the server. */
const cuttingProxy = (to: number, afterBytes: number, how: 'end' | 'reset'): Server =>
  createServer((from: Socket) => {
    const server = connect(to, '127.0.0.1');
    let leftBytes = afterBytes;
    const cut = () => {
      if (how === 'end') from.end();
      else from.resetAndDestroy();
      server.destroy();
    };
    from.on('error', () => {}).on('close', () => server.destroy());
    server.on('error', () => {}).on('close', () => from.destroy());
    from.on('data', (chunk) => server.writable && server.write(chunk));
    server.on('data', (chunk: Buffer) => {
      if (chunk.length < leftBytes) from.write(chunk);
      else from.write(chunk.subarray(0, leftBytes), cut);
      leftBytes -= Math.min(leftBytes, chunk.length);
    });
  });

const BACKENDS = { ssh2: openSshWire, openssh: openOpensshWire };

describe.skipIf(sshdMissing)(`a connection that breaks${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  for (const [backend, open] of Object.entries(BACKENDS)) {
    it(`is unreachable, never a refused login, wherever it is cut before the relay speaks, by ${backend}`, async () => {
      const sshd = await sshdWith();
      trustPort(sshd);
      const whole = await dialPort(sshd, sshd.port, open);
      whole.close();
      for (const [round, bytes] of [1, 20, 60, 500, 1200, 1500, 1800, 2000, 2200, 2400].entries()) {
        const port = await listen(cuttingProxy(sshd.port, bytes, round % 2 === 0 ? 'end' : 'reset'));
        const outcome = await dialPort(sshd, port, open).then(
          () => 'connected',
          (error: KhloneError) => error.code,
        );
        // The last cuts may fall behind the magic line, where there is a wire and then its end.
        expect(bytes > 1500 ? ['unreachable', 'connected'] : ['unreachable'], `${bytes} bytes`).toContain(
          outcome,
        );
      }
    });

    it(`is told in words when something else than ssh answers, by ${backend}`, async () => {
      const sshd = await sshdWith();
      trustPort(sshd);
      for (const greeting of [
        '',
        'HTTP/1.1 400 Bad Request\r\n\r\n',
        '\x00'.repeat(70_000),
        'SSH-1.5-old\r\n',
      ]) {
        const server = createServer((socket) => {
          socket.on('error', () => {}).end(greeting);
        });
        const error = await failure(dialPort(sshd, await listen(server), open));
        expect(error, JSON.stringify(greeting.slice(0, 20))).toMatchObject({ code: 'unreachable', exit: 4 });
        expect(error.message).not.toMatch(/[\x00-\x1f]/);
      }
    });
  }
});

describe.skipIf(sshdMissing)(`a host that asks a person${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  const dial = (sshd: Sshd, asker?: Asker) => dialBy(openSshWire, sshd, { host: 'odd', asker });

  it('puts each question at the terminal, hides what must be hidden, and asks again after a wrong password', async () => {
    const sshd = await sshdWith();
    await oddSshd(sshd, (context) => {
      if (context.method === 'password' && context.password === 'right') context.accept();
      else context.reject(['password']);
    });
    const person = answering('wrong', 'right');
    await dial(sshd, person);
    expect(person.asked).toHaveLength(2);
    expect(person.asked[0]).toContain("@odd's password: ");
    expect(person.secret[0]).toBe(true);
    const alone = await failure(dial(sshd));
    expect(alone).toMatchObject({ code: 'ssh-auth', exit: 5 });
    expect(alone.message).toContain('accepts password');
    const stubborn = answering('no', 'no', 'no', 'no');
    expect((await failure(dial(sshd, stubborn))).code).toBe('ssh-auth');
    expect(stubborn.asked).toHaveLength(3);
  });

  it('asks for the second factor after the key was accepted', async () => {
    const sshd = await sshdWith();
    let keyAccepted = false;
    await oddSshd(sshd, (context) => {
      if (context.method === 'publickey') {
        if (!context.signature) return context.accept();
        keyAccepted = true;
        return context.reject(['keyboard-interactive'], true);
      }
      if (context.method !== 'keyboard-interactive' || !keyAccepted)
        return context.reject(keyAccepted ? ['keyboard-interactive'] : ['publickey']);
      context.prompt(
        [
          { prompt: 'Code: ', echo: true },
          { prompt: 'Pin: ', echo: false },
        ],
        'Two\x1b[2J steps',
        ([code, pin]) => (code === '123456' && pin === '42' ? context.accept() : context.reject()),
      );
    });
    const person = answering('123456', '42');
    await dial(sshd, person);
    expect(person.secret).toEqual([false, true]);
    expect(person.asked[0]).toMatch(/^Two.* steps\n\(.*@odd\) Code: $/);
    expect(person.asked[0]).not.toContain('\x1b');
  });
});

describe('the deadline of a stage', () => {
  it('stands still while a person is asked and starts afresh with the next stage', async () => {
    vi.useFakeTimers();
    afterwards(() => vi.useRealTimers());
    const late = vi.fn();
    const deadline = createStageDeadline(1000, late);
    await vi.advanceTimersByTimeAsync(900);
    const answer = Promise.withResolvers<string>();
    const asked = deadline.hold(() => answer.promise);
    await vi.advanceTimersByTimeAsync(60_000);
    answer.resolve('yes');
    expect(await asked).toBe('yes');
    await vi.advanceTimersByTimeAsync(99);
    expect(late).not.toHaveBeenCalled();
    deadline.restart(500);
    await vi.advanceTimersByTimeAsync(499);
    expect(late).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(2);
    expect(late).toHaveBeenCalledExactlyOnceWith(500);
  });
});
