import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshdMissing } from '../fixtures/sshd.ts';
import { SHELLS } from '../shell/fake-khlone.ts';
import { openTerminal } from '../shell/terminal.ts';
import { createFarWorld, type FarWorld, zoneYml } from './far-world.ts';

/** A program that asks for a login in a real terminal, as a brain's own login does. */
const FAKE = `#!/bin/sh
[ "$1 $2" = "auth login" ] && [ -t 0 ] && [ -t 1 ] || exit 3
printf 'code? '; read -r code; echo "$code" > "$HOME/code"
`;

describe.skipIf(sshdMissing)(`khlone login${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  beforeAll(async () => {
    far = await createFarWorld({ sshd: { path: '/tmp/none:/usr/local/bin:/usr/bin:/bin' } });
  });
  afterAll(() => far?.dispose());

  it('runs the brain’s own login on the host, at the terminal of the person', async () => {
    const { sshd } = far;
    const bin = join(sshd.remoteHome, '.local/bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'claude'), FAKE);
    chmodSync(join(bin, 'claude'), 0o755);
    writeFileSync(join(sshd.remoteHome, '.bashrc'), `PATH=${bin}:$PATH\n`);
    writeFileSync(join(far.repo, 'khlone.yml'), zoneYml(`${userInfo().username}@zone:${sshd.port}`));
    await far.ok(['trust', '--yes']);
    const bash = SHELLS.find((shell) => shell.name === 'bash');
    if (!bash) throw new Error('no bash');
    const place = { ...far, root: far.base, env: { ...far.env, PS1: '$ ', TERM: 'screen' } };
    const screen = await openTerminal(bash, place as never);
    try {
      await screen.line(`cd ${far.repo}; khlone login claude`);
      await screen.until(/code\?/);
      await screen.line('4711');
      await screen.until(/logged in/);
    } finally {
      await screen.end();
    }
    expect(readFileSync(join(sshd.remoteHome, 'code'), 'utf8')).toBe('4711\n');
  });

  it('keeps two repositories of one name and no origin apart on their host', async () => {
    const yml = { 'khlone.yml': zoneYml('zone') };
    for (const name of ['a/app', 'b/app']) {
      const cwd = far.repository(name, { branch: 'main', files: { ...yml, which: `${name}\n` } });
      await far.ok(['trust', '--yes'], { cwd });
      const { stdout } = await far.ok(['act', '--who', '@sh', '--await', 'cat which'], { cwd });
      expect(stdout).toBe(`${name}\n`);
      expect(existsSync(cwd)).toBe(true);
    }
  });
});
