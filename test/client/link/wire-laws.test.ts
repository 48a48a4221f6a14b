import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { until } from '../../fixtures/server.ts';
import {
  answering,
  appendConfig,
  BUNDLE,
  type Dial,
  dialBy,
  echo,
  failure,
  noClientProcesses,
  RELAY_ONLY,
  sshdWith,
} from '../../fixtures/ssh-wire.ts';
import { freePort, type Sshd, sshdMissing } from '../../fixtures/sshd.ts';

/** What holds for a wire by either backend. */

const missing = sshdMissing ? ` (${sshdMissing})` : '';
const BACKENDS = { ssh2: openSshWire, openssh: openOpensshWire };

describe.skipIf(sshdMissing).each(Object.entries(BACKENDS))(
  `an ssh wire by %s${missing}`,
  (backend, open) => {
    const dial = (sshd: Sshd, how?: Dial) => dialBy(open, sshd, how);

    it('carries every byte unchanged, both ways, past the flow control window', async () => {
      const { duplex } = await dial(await sshdWith({ config: RELAY_ONLY }));
      const all = Buffer.alloc(
        5 << 20,
        Uint8Array.from({ length: 256 }, (_, at) => at),
      );
      const came = buffer(duplex);
      duplex.end(all);
      expect((await came).equals(all)).toBe(true);
    });

    it('speaks through a forced command that is the relay', async () => {
      const sshd = await sshdWith({ keyOptions: `restrict,command="${process.execPath} ${BUNDLE} relay"` });
      expect(await echo((await dial(sshd)).duplex, 'restricted')).toBe('restricted');
      expect(existsSync(join(sshd.remoteHome, '.khlone'))).toBe(false);
    });

    it('says what a forced command that is something else answered', async () => {
      const sshd = await sshdWith({ keyOptions: 'restrict,command="echo only backups here; echo no >&2"' });
      const error = await failure(dial(sshd));
      expect(error.code).toBe('remote-setup');
      expect(error.message).toContain('only backups here');
      expect(error.message).not.toContain('Transferred');
    });

    it('refuses a changed host key with the line that holds the old one, even when a person would say yes', async () => {
      const sshd = await sshdWith();
      await sshd.restartWithOtherKey();
      const person = answering('yes');
      const error = await failure(dial(sshd, { asker: person }));
      expect(error).toMatchObject({ code: 'host-key', exit: 5 });
      expect(error.message).toContain(`${sshd.knownHosts}:1`);
      expect(error.message).toMatch(/it shows .*SHA256:/);
      const ownWords = { ssh2: `ssh-keygen -R '[127.0.0.1]:${sshd.port}'`, openssh: 'remove that line' };
      expect(error.hint).toContain(ownWords[backend as keyof typeof BACKENDS]);
      expect(person.asked).toEqual([]);
      expect(sshd.log()).not.toContain('Accepted');
    });

    for (const checking of ['no', 'accept-new'])
      it(`refuses an unknown host where nobody can be asked, even with StrictHostKeyChecking ${checking}`, async () => {
        const sshd = await sshdWith();
        rmSync(sshd.knownHosts);
        appendConfig(sshd, ['Host *', `  StrictHostKeyChecking ${checking}`]);
        const error = await failure(dial(sshd));
        expect(error).toMatchObject({ code: 'host-key', exit: 5 });
        expect(error.message).toContain('unknown');
        expect(error.hint).toContain('ssh zone, or khlone reconnect');
        expect(existsSync(sshd.knownHosts)).toBe(false);
      });

    it('asks once about an unknown host, shows the fingerprint and keeps the key where ssh finds it', async () => {
      const sshd = await sshdWith({ config: RELAY_ONLY });
      rmSync(sshd.knownHosts);
      expect((await failure(dial(sshd, { asker: answering('no') }))).code).toBe('host-key');
      expect(existsSync(sshd.knownHosts)).toBe(false);

      const person = answering('yes');
      await dial(sshd, { asker: person });
      const shown = execFileSync('ssh-keygen', ['-lf', sshd.knownHosts], { encoding: 'utf8' }).split(' ')[1];
      expect(person.asked).toHaveLength(1);
      expect(person.asked[0]).toContain(shown);
      expect(person.secret).toEqual([false]);
      await dial(sshd);
      const strict = ['-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=yes'];
      execFileSync('ssh', ['-F', sshd.sshConfig, ...strict, 'zone', 'relay'], { input: '' });
    });

    it('names a closed port and a name without an address', async () => {
      const sshd = await sshdWith();
      const refused = await failure(dial(sshd, { host: `127.0.0.1:${await freePort()}` }));
      expect(refused).toMatchObject({ code: 'unreachable', exit: 4 });
      expect(refused.message).toContain('refuses connections');
      const nowhere = await failure(dial(sshd, { host: 'nowhere.invalid' }));
      expect(nowhere.code).toBe('unreachable');
      expect(nowhere.message).toContain('has no address');
    });

    it('refuses host names that are options or shell words', async () => {
      const sshd = await sshdWith();
      const marker = join(sshd.clientHome, 'ran');
      const words = [`-oProxyCommand=touch ${marker}`, `x;touch ${marker}`, 'a b', 'a\nb', '$(id)', ''];
      for (const host of [...words, '-x@zone', 'zone:99999'])
        expect((await failure(dial(sshd, { host }))).code, host).toBe('config');
      expect(existsSync(marker)).toBe(false);
    });

    it('stops at once when the caller gives up, and leaves nothing behind', async () => {
      const sshd = await sshdWith({ bashrc: '/bin/sleep 20\n' });
      const giveUp = new AbortController();
      const work = dial(sshd, { signal: giveUp.signal });
      await until('the login', () => sshd.log().includes('Accepted publickey'));
      giveUp.abort(new KhloneError('interrupted', 'interrupted'));
      expect((await failure(work)).code).toBe('interrupted');
      await noClientProcesses(sshd);
    });
  },
);
