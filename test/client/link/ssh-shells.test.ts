import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import { clientEnv, createSshd, sshdMissing } from '../../fixtures/sshd.ts';

/** Accounts whose login shell is not a POSIX shell, made for the test and removed after it. */

const BUNDLE = join(import.meta.dirname, '../../fixtures/echo-server.mjs');
const missing =
  sshdMissing ??
  (process.getuid?.() === 0 && existsSync('/usr/sbin/useradd') ? undefined : 'needs root to make an account');

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  const endings = cleanups.splice(0).reverse();
  for (const ending of endings) await Promise.resolve().then(ending).catch(console.error);
});

/** The test's Node may live where only root can look; an account that is not root could not run it. */
const nodeReadable = (): boolean => {
  for (let folder = dirname(process.execPath); folder !== '/'; folder = dirname(folder))
    if ((statSync(folder).mode & 0o001) === 0) return false;
  return true;
};

describe.skipIf(missing)(`an account with an odd login shell${missing ? ` (${missing})` : ''}`, () => {
  for (const shell of ['/usr/bin/fish', '/bin/tcsh', '/bin/zsh'])
    it.skipIf(!existsSync(shell) || !nodeReadable())(
      `is set up and reached under ${shell}, by either backend`,
      async () => {
        const user = `khlone-${basename(shell)}-${process.pid % 100_000}`;
        const sshd = await createSshd({ user });
        cleanups.push(sshd.stop);
        execFileSync('/usr/sbin/useradd', ['-M', '-d', sshd.remoteHome, '-s', shell, '-p', '*', user]);
        // Forced, because its last session may still be on its way out.
        cleanups.push(() => execFileSync('/usr/sbin/userdel', ['-f', user], { stdio: 'ignore' }));
        execFileSync('chown', ['-R', user, sshd.remoteHome]);
        for (const folder of [dirname(sshd.remoteHome), sshd.remoteHome]) chmodSync(folder, 0o755);
        for (const open of [openOpensshWire, openSshWire]) {
          const wire = await open(
            { host: 'zone', home: join(sshd.clientHome, 'khlone'), env: clientEnv(sshd) },
            undefined,
            { serverBundle: BUNDLE, version: '0.1.0', signal: AbortSignal.timeout(30_000) },
          );
          cleanups.push(() => wire.close());
          wire.duplex.write('hello');
          const [came] = await new Promise<Buffer[]>((resolve) =>
            wire.duplex.once('data', (chunk) => resolve([chunk])),
          );
          expect(came?.toString()).toBe('hello');
        }
      },
    );
});
