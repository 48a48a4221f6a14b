import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { khloneProgram } from '../fixtures/built.ts';
import { until } from '../fixtures/khlone.ts';
import { openPersonTerminal } from '../fixtures/person-terminal.ts';
import { makeUserKey, sshdMissing } from '../fixtures/sshd.ts';
import { SHELLS } from '../shell/fake-khlone.ts';
import { openTerminal, type Terminal } from '../shell/terminal.ts';
import { createFarWorld, type FarWish, type FarWorld, idOf } from './far-world.ts';

/** Hosts as they are found: what works works through the command line, what does not says what to do. */

const isRoot = process.getuid?.() === 0;
const bash = SHELLS.find((shell) => shell.name === 'bash');

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const ending of cleanups.splice(0).reverse())
    await Promise.resolve().then(ending).catch(console.error);
});

const world = async (wish: FarWish = {}): Promise<FarWorld> => {
  const far = await createFarWorld(wish);
  cleanups.push(far.dispose);
  return far;
};

const act = (line: string, ...more: string[]): string[] => ['act', '--who', '@sh', line, ...more];
const outbox = (far: FarWorld): string[] => {
  if (!existsSync(far.home.outbox)) return [];
  return readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));
};

const terminal = async (far: FarWorld): Promise<Terminal> => {
  if (!bash) throw new Error('no bash');
  const place = { ...far, root: far.base, env: { ...far.env, PS1: '$ ', TERM: 'screen' } };
  const made = await openTerminal(bash, place as never);
  cleanups.push(made.end);
  await made.line(`cd ${far.repo}`);
  return made;
};

/** A person looks into the zone, whatever makes the terminal there. */
const looksIn = async (far: FarWorld): Promise<void> => {
  const at = await openPersonTerminal(far);
  cleanups.push(at.end);
  await at.line('khlone attach --shell; echo "code=$?"');
  await at.until(/org\/app\/main/);
  await at.line('exit 3');
  expect(await at.until(/code=3/)).not.toMatch(/welcome|oops|khlone-wire/);
};

const useKey = (far: FarWorld, key: string): void => {
  const text = readFileSync(far.sshd.sshConfig, 'utf8');
  writeFileSync(
    far.sshd.sshConfig,
    text.replace(/IdentityFile .*/, `IdentityFile ${key}\n  IdentitiesOnly yes`),
  );
};

describe.skipIf(sshdMissing)(`a host${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it('with one session per connection is enough', async () => {
    const far = await world({ sshd: { config: ['MaxSessions 1'] } });
    expect((await far.ok(act('echo one', '--await'))).stdout).toBe('one\n');
    expect((await far.ok(['doctor'])).stdout).toContain('server on zone');
    await looksIn(far);
  });

  it('whose .bashrc is noisy and slow is waited for', async () => {
    const far = await world({
      sshd: { bashrc: 'echo welcome; echo oops >&2; printf "\\0\\377"; sleep 0.3\n' },
    });
    expect((await far.ok(act('echo clean', '--await'))).stdout).toBe('clean\n');
    await looksIn(far);
  });

  it('whose .bashrc takes longer than an act waits has it queued here, and sent by itself', async () => {
    const far = await world();
    await far.ok(act('true', '--await'));
    await far.ok(['stop']);
    writeFileSync(join(far.sshd.remoteHome, '.bashrc'), 'sleep 4\n');
    const queued = await far.ok(act('echo late'));
    expect(queued.stderr).toContain('[queued here: zone unreachable]');
    expect((await far.ok(['await', idOf(queued)])).stdout).toBe('late\n');
  });

  it('that only allows the relay, by a forced command, serves a zone', async () => {
    const program = khloneProgram();
    const bundle = join(dirname(program), '../dist/khlone-server.mjs');
    const keyOptions = `restrict,command="${process.execPath} ${bundle} relay"`;
    const far = await world({ sshd: { keyOptions } });
    expect((await far.ok(act('echo forced', '--await'))).stdout).toBe('forced\n');
    expect(existsSync(join(far.farHome, 'server/versions'))).toBe(false);
    await looksIn(far);
  });

  it('with another host key than known is refused, and nothing is queued', async () => {
    const far = await world();
    await far.sshd.restartWithOtherKey();
    const refused = await far.khlone(act('true'));
    expect(refused.code).toBe(5);
    expect(refused.stderr).toContain('is not the one on file');
    expect(refused.stderr).toContain(`ssh-keygen -R '[127.0.0.1]:${far.sshd.port}'`);
    expect(outbox(far)).toEqual([]);
  });

  it('whose key changes while work waits for it keeps the work here, and says why', async () => {
    const far = await world();
    await far.ok(act('true', '--await'));
    await far.sshd.close();
    await far.ok(act('echo waited'));
    const known = readFileSync(far.sshd.knownHosts, 'utf8');
    await far.sshd.restartWithOtherKey();
    await until('it is refused', async () =>
      (await far.ok(['status'])).stdout.includes('(ssh zone, refused)'),
    );
    const { stdout } = await far.ok(['status']);
    expect(stdout).toContain('is not the one on file');
    expect(outbox(far)).toHaveLength(1);
    expect(readFileSync(far.sshd.knownHosts, 'utf8')).toBe(known);
    const again = await far.khlone(['reconnect']);
    expect(again.code).toBe(5);
  });

  it('that is unknown is refused without a terminal', async () => {
    const far = await world();
    writeFileSync(far.sshd.knownHosts, '');
    const refused = await far.khlone(act('true'));
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/the host key of zone is unknown: ssh-ed25519 SHA256:/);
    expect(outbox(far)).toEqual([]);
  });

  it('that is unknown is asked about once at a terminal, and the act goes on', async () => {
    const far = await world();
    const known = readFileSync(far.sshd.knownHosts, 'utf8');
    writeFileSync(far.sshd.knownHosts, '');
    const screen = await terminal(far);
    await screen.line(`khlone act --who @sh 'echo asked' --await`);
    await screen.until(/is not known yet/);
    // Longer than an act waits for a host: a person reads a fingerprint.
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    await screen.line('yes');
    await screen.until(/^asked$/m);
    expect(readFileSync(far.sshd.knownHosts, 'utf8')).toBe(known);
    await screen.line('clear; khlone act --who @sh "echo known" --await');
    expect(await screen.until(/^known$/m)).not.toContain('not known yet');
  });

  it('that refuses the key tells what was tried', async () => {
    const far = await world();
    useKey(far, makeUserKey(far.sshd, 'stranger'));
    const refused = await far.khlone(act('true'));
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/zone refused the login \(tried .*stranger/);
    expect(outbox(far)).toEqual([]);
  });

  it('is logged in to with an encrypted key at a terminal, once', async () => {
    const far = await world();
    const key = makeUserKey(far.sshd, 'locked', 'open sesame');
    const authorized = join(dirname(far.sshd.clientHome), 'authorized_keys');
    writeFileSync(authorized, readFileSync(`${key}.pub`, 'utf8'));
    useKey(far, key);
    const without = await far.khlone(act('true'));
    expect(without.code).toBe(5);
    const screen = await terminal(far);
    await screen.line('khlone reconnect');
    await screen.until(/locked/);
    await screen.line('open sesame');
    expect(await screen.until(/connected to zone/)).not.toContain('open sesame');
    expect((await far.ok(act('echo in', '--await'))).stdout).toBe('in\n');
  });

  it.skipIf(!isRoot)('whose disk is full says so, and gets the work when there is room', async () => {
    const far = await world();
    mkdirSync(far.farHome, { mode: 0o700 });
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=700', 'khlone-test', far.farHome]);
    } catch {
      return console.log('no tmpfs may be mounted here');
    }
    cleanups.push(() => execFileSync('umount', ['-l', far.farHome]));
    const full = await far.ok(act('echo room'));
    expect(full.stderr).toContain('its disk is full');
    execFileSync('mount', ['-o', 'remount,size=4m', far.farHome]);
    const low = await far.khlone(['reconnect']);
    expect(low.stderr).toContain('is nearly full');
    execFileSync('mount', ['-o', 'remount,size=400m', far.farHome]);
    await until('there is room', async () => (await far.khlone(['reconnect'])).code === 0);
    expect((await far.ok(['await', idOf(full)])).stdout).toBe('room\n');
  });
});

/** The test's Node may live where only root can look; an account that is not root could not run it. */
const nodeReadable = (): boolean => {
  for (let folder = dirname(process.execPath); folder !== '/'; folder = dirname(folder))
    if ((statSync(folder).mode & 0o001) === 0) return false;
  return true;
};

const noAccounts =
  sshdMissing ?? (isRoot && existsSync('/usr/sbin/useradd') ? undefined : 'needs root to make an account');

describe.skipIf(noAccounts)(
  `an account with an odd login shell${noAccounts ? ` (${noAccounts})` : ''}`,
  () => {
    for (const shell of ['/usr/bin/fish', '/bin/tcsh'])
      it.skipIf(!existsSync(shell) || !nodeReadable())(`has a zone under ${shell}`, async () => {
        const user = `khl-${basename(shell)}-${process.pid % 100_000}`;
        const far = await world({ sshd: { user } });
        const { remoteHome } = far.sshd;
        execFileSync('/usr/sbin/useradd', ['-M', '-d', remoteHome, '-s', shell, '-p', '*', user]);
        cleanups.push(() => execFileSync('/usr/sbin/userdel', ['-f', user], { stdio: 'ignore' }));
        execFileSync('chown', ['-R', user, remoteHome]);
        for (const folder of [dirname(remoteHome), remoteHome]) chmodSync(folder, 0o755);
        const ran = await far.ok(act('id -un; echo $0', '--await'));
        expect(ran.stdout.split('\n')[0]).toBe(user);
      });
  },
);
