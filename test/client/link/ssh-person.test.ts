import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { createSshDial } from '../../../src/client/link/ssh-dial.ts';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import { until } from '../../fixtures/server.ts';
import { afterwards, answering, dialBy, failure, RELAY_ONLY, sshdWith } from '../../fixtures/ssh-wire.ts';
import { type Sshd, type SshdOptions, sshdMissing } from '../../fixtures/sshd.ts';

/** Keys that wait for somebody: an agent that lists a key and answers no request to sign, as while a window is open. */

const string = (value: Buffer | string): Buffer => {
  const bytes = Buffer.from(value as Buffer);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
};

const [LIST, IDENTITIES, SIGN] = [11, 12, 13];

const startAgent = async (sshd: Sshd, key: Buffer) => {
  const path = join(sshd.clientHome, 'slow-agent');
  const sockets = new Set<Socket>();
  let begged = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    let came = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      came = Buffer.concat([came, bytes]);
      while (came.length >= 4 && came.length >= 4 + came.readUInt32BE(0)) {
        const kind = came[4];
        came = came.subarray(4 + came.readUInt32BE(0));
        const count = Buffer.from([IDENTITIES, 0, 0, 0, 1]);
        if (kind === LIST)
          socket.write(string(Buffer.concat([count, string(key), string('a key that asks')])));
        else if (kind === SIGN) begged += 1;
        // Session-bind and other extensions: failure.
        else socket.write(string(Buffer.from([5])));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const hangUp = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  afterwards(hangUp);
  return { path, begged: () => begged, hangUp };
};

const blobOf = (path: string): Buffer =>
  Buffer.from(readFileSync(path, 'latin1').split(' ')[1] ?? '', 'base64');

/** A host whose key only the agent has. */
const agentHost = async (options: SshdOptions = {}) => {
  const sshd = await sshdWith({ ...options, config: [...RELAY_ONLY, ...(options.config ?? [])] });
  const agent = await startAgent(sshd, blobOf(`${sshd.userKey}.pub`));
  rmSync(sshd.userKey);
  return { sshd, agent, env: { SSH_AUTH_SOCK: agent.path } };
};

const WAITS = { code: 'ssh-auth', message: expect.stringContaining('waits for a touch or a yes') };
const BACKENDS = [openSshWire, openOpensshWire];

describe.skipIf(sshdMissing)(`a key that waits for somebody${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it('is begged for 10 s by a dial of its own, by either backend, and then waits for a person', async () => {
    await Promise.all(
      BACKENDS.map(async (open) => {
        const { sshd, agent, env } = await agentHost();
        expect(await failure(dialBy(open, sshd, { env }))).toMatchObject(WAITS);
        expect(agent.begged()).toBe(1);
      }),
    );
  }, 20_000);

  // A child ssh that waits for its agent notices no hang-up, so for it the 10 s come first.
  it('is not begged for again when the host hangs up meanwhile', async () => {
    const { sshd, agent, env } = await agentHost({ config: ['LoginGraceTime 4'] });
    expect(await failure(dialBy(openSshWire, sshd, { env }))).toMatchObject(WAITS);
    expect(agent.begged()).toBe(1);
  });

  it('is no refusal where a person is', async () => {
    const { sshd, agent, env } = await agentHost({ config: ['LoginGraceTime 4'] });
    const dialling = failure(dialBy(openSshWire, sshd, { env, asker: answering() }));
    expect((await dialling).code).toBe('unreachable');
    expect(agent.begged()).toBe(1);
  });

  it('of hardware is known by its type: one blink, however soon the connection ends', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const type = 'sk-ssh-ed25519@openssh.com';
    const key = Buffer.concat([string(type), string(Buffer.alloc(32, 7)), string('ssh:')]);
    const agent = await startAgent(sshd, key);
    appendFileSync(
      join(dirname(sshd.clientHome), 'authorized_keys'),
      `${type} ${key.toString('base64')} sk\n`,
    );
    rmSync(sshd.userKey);
    rmSync(`${sshd.userKey}.pub`);
    const way = createSshDial(() => undefined);
    const dialling = failure(dialBy(way.open, sshd, { env: { SSH_AUTH_SOCK: agent.path } }));
    await until('the key blinks', () => agent.begged() === 1);
    await sshd.close();
    agent.hangUp();
    expect(await dialling).toMatchObject(WAITS);
    expect(way.choice()).toMatchObject({ backend: 'openssh', why: expect.stringContaining(type) });
    expect(agent.begged()).toBe(1);
  });
});
