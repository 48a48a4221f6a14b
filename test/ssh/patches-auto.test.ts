import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, write, zoneYml } from './far-world.ts';

/** Patches that travel by themselves, both ways. */

/** A look each minute must not be what makes a test pass. */
const SOON_MS = 20_000;

describe.skipIf(sshdMissing)(`patches by themselves${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const there = (name: string): string | undefined => {
    const path = join(far.zone, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  };
  const here = (name: string): string | undefined => {
    const path = join(far.repo, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  };
  const arrives = (name: string, text: string, side = there) =>
    until(`${name} arrives`, () => side(name) === text, SOON_MS);
  const status = async (): Promise<string> => (await far.ok(['status'])).stdout;
  const says = (line: RegExp) => until(`status says ${line}`, async () => line.test(await status()), SOON_MS);

  beforeAll(async () => {
    far = await createFarWorld({ files: { 'src/api.ts': 'a\nb\nc\n', '.gitignore': 'ignored/\n' } });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  it('go both ways after sync --auto, in new folders too', async () => {
    expect(await far.says(['sync', '--auto'])).toBe('! ✓ patches travel by themselves, both ways\n');
    await says(/^.─ sync {2}auto$/m);
    write(far, 'one', '1\n');
    await arrives('one', '1\n');
    mkdirSync(join(far.repo, 'deep/er'), { recursive: true });
    write(far, 'deep/er/two', '2\n');
    await arrives('deep/er/two', '2\n');
    write(far, 'deep/er/two', '3\n');
    await arrives('deep/er/two', '3\n');
    await far.ok(['act', '--who', '@sh', 'echo made > made; rm one', '--await']);
    await arrives('made', 'made\n', here);
    await until('what was removed there is removed here', () => here('one') === undefined, SOON_MS);
  });

  it('tell a conflict and go on with the rest', async () => {
    writeFileSync(join(far.zone, 'src/api.ts'), 'a\ntheirs\nc\n');
    write(far, 'src/api.ts', 'a\nmine\nc\n');
    await says(/^.─ sync {2}auto, 1 conflict$/m);
    write(far, 'beside', '1\n');
    await arrives('beside', '1\n');
    expect(here('src/api.ts')).toBe('a\nmine\nc\n');
    await far.ok(['resolve', 'src/api.ts', '--keep', 'local']);
    await far.ok(['sync']);
    await arrives('src/api.ts', 'a\nmine\nc\n');
  });

  it('say what came that something runs by itself', async () => {
    await far.ok(['act', '--who', '@sh', 'mkdir .vscode && echo {} > .vscode/tasks.json', '--await']);
    await says(/^.─ ⚠ look at \.vscode\/tasks\.json: /m);
    await far.ok(['pull']);
    expect(await status()).not.toContain('look at');
  });

  it('pause with a reason that can be seen, and go on by themselves', async () => {
    writeFileSync(join(far.repo, '.git/MERGE_HEAD'), '');
    write(far, 'paused', '1\n');
    await says(/^.─ sync {2}auto, paused: a merge is not finished/m);
    expect(there('paused')).toBeUndefined();
    rmSync(join(far.repo, '.git/MERGE_HEAD'));
    write(far, 'paused', '2\n');
    await arrives('paused', '2\n');
    await says(/^.─ sync {2}auto$/m);
  });

  it('wait while git is in the middle of something in the zone, which a command says and does not mind', async () => {
    await far.ok(['act', '--who', '@sh', '--await', 'git add -A && git commit -qm now && echo x > later']);
    await arrives('later', 'x\n', here);
    const rebase =
      'git add -A && git commit -qm later && GIT_SEQUENCE_EDITOR="sed -i 1s/pick/edit/" git rebase -qi HEAD~2 2>&1';
    await far.ok(['act', '--who', '@sh', '--await', rebase]);
    await says(/^.─ sync {2}auto, paused: in the zone a rebase is not finished$/m);
    expect([there('later'), here('later')]).toEqual([undefined, 'x\n']);
    write(far, 'meanwhile', '1\n');
    expect(await far.says(['sync', 'meanwhile'])).toBe(
      '! ⚠ in the zone a rebase is not finished\n! ✓ 1 file sent\n',
    );
    await far.ok(['act', '--who', '@sh', '--await', 'git rebase --continue 2>&1']);
    await says(/^.─ sync {2}auto$/m);
    expect([there('later'), here('later')]).toEqual(['x\n', 'x\n']);
  });

  it('survive a hub that is killed', async () => {
    await far.kill(far.hubPid());
    await far.ok(['status']);
    write(far, 'after', '1\n');
    await arrives('after', '1\n');
  });

  it('wait in order while the host is away', async () => {
    await far.sshd.close();
    await says(/offline|silent|not connected/);
    write(far, 'queued', '1\n');
    await says(/queued here {2}1 patch \(1 file\)/);
    await far.sshd.open();
    await far.ok(['reconnect']);
    await arrives('queued', '1\n');
  });

  it('end with --auto off', async () => {
    expect(await far.says(['sync', '--auto', 'off'])).toBe('! ✓ patches wait for sync and pull\n');
    write(far, 'off', '1\n');
    await says(/^.─ sync {2}1 file to send$/m);
    expect(there('off')).toBeUndefined();
    expect((await far.khlone(['sync', '--auto', 'src'])).code).toBe(2);
  });
});

describe.skipIf(sshdMissing)('patches by themselves by khlone.yml', () => {
  let far: FarWorld;
  afterAll(() => far?.dispose());

  it('begin with the zone', async () => {
    far = await createFarWorld({ yml: 'sync: { auto: true }\n' });
    const init = await far.ok(['init']);
    expect(init.stderr).not.toContain('passed over');
    await far.ok(['act', '--who', '@sh', 'echo 1 > made', '--await']);
    await until('it came', () => existsSync(join(far.repo, 'made')), SOON_MS);
    write(far, 'one', '1\n');
    await until('it went', () => existsSync(join(far.zone, 'one')), SOON_MS);
  });
  it('begin by the person’s own settings, with the next hub too', async () => {
    write(far, 'khlone.yml', zoneYml(far.sshd.host));
    await far.ok(['config', 'set', 'auto-sync', 'true']);
    await far.kill(far.hubPid());
    await far.ok(['status']);
    write(far, 'two', '2\n');
    await until('it went', () => existsSync(join(far.zone, 'two')), SOON_MS);
  });
});
