import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, write } from './far-world.ts';

/** Work that travels between a person's worktree and a zone on a host, as the person sees it. */

const numbered = (count: number, edit: Record<number, string> = {}): string =>
  Array.from({ length: count }, (_, n) => `${edit[n + 1] ?? `line ${n + 1}`}\n`).join('');

/** Lines from..to of a file that both sides rewrite, each in its own words. */
const rewritten = (count: number, from: number, to: number, word: string): string =>
  numbered(
    count,
    Object.fromEntries(Array.from({ length: to - from + 1 }, (_, n) => [from + n, `${word} ${n}`])),
  );

/** Lines 42-47 became ten. */
const longer = (): string =>
  rewritten(60, 42, 47, 'theirs').replace('theirs 5\n', 'theirs 5\ntheirs 6\ntheirs 7\ntheirs 8\ntheirs 9\n');

describe.skipIf(sshdMissing)(`patches over ssh${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const there = (name: string, text: string): void => writeFileSync(join(far.zone, name), text);
  const readHere = (name: string): string => readFileSync(join(far.repo, name), 'utf8');
  const readThere = (name: string): string => readFileSync(join(far.zone, name), 'utf8');
  const clean = async (): Promise<void> => {
    expect(await far.says(['sync'])).toMatch(/✓ (nothing|\d+ files?) (to send|sent)\n$/);
    expect(await far.says(['pull'])).toMatch(/✓ (nothing|\d+ files?) (to pull|pulled)\n$/);
  };

  beforeAll(async () => {
    far = await createFarWorld({
      files: { 'src/auth.ts': numbered(60), 'src/api.ts': numbered(20), 'notes.md': numbered(20) },
    });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  it('pulls what a clone did, uncommitted and untracked too, and leaves index and HEAD alone', async () => {
    const index = readFileSync(join(far.repo, '.git/index'));
    await far.ok([
      'act',
      '--who',
      '@sh',
      'echo made > made.txt; sed -i "s/line 7$/seven/" src/api.ts',
      '--await',
    ]);
    expect(await far.says(['diff'])).toContain('+seven\n');
    expect(existsSync(join(far.repo, 'made.txt'))).toBe(false);
    expect(await far.says(['pull'])).toBe('! ✓ 2 files pulled\n');
    expect(readHere('made.txt')).toBe('made\n');
    expect(readHere('src/api.ts')).toBe(numbered(20, { 7: 'seven' }));
    expect(readFileSync(join(far.repo, '.git/index'))).toEqual(index);
    expect(await far.says(['pull'])).toBe('! ✓ nothing to pull\n');
  });

  it('syncs what the person did, and an act sees it', async () => {
    write(far, 'todo.md', 'buy milk\n');
    rmSync(join(far.repo, 'made.txt'));
    expect(await far.says(['sync'])).toBe('! ✓ 2 files sent\n');
    expect(
      (await far.ok(['act', '--who', '@sh', 'cat todo.md; ls made.txt 2>&1 | wc -l', '--await'])).stdout,
    ).toContain('buy milk');
    expect(existsSync(join(far.zone, 'made.txt'))).toBe(false);
    expect(await far.says(['sync'])).toBe('! ✓ nothing to send\n');
  });

  it('merges what both sides changed in other lines', async () => {
    write(far, 'src/auth.ts', numbered(60, { 3: 'mine' }));
    there('src/auth.ts', numbered(60, { 50: 'theirs' }));
    expect(await far.says(['pull'])).toBe('! ✓ 1 file pulled\n');
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 3: 'mine', 50: 'theirs' }));
    expect(await far.says(['sync'])).toBe('! ✓ 1 file sent\n');
    expect(readThere('src/auth.ts')).toBe(readHere('src/auth.ts'));
  });

  /** Both sides rewrite lines of src/auth.ts; the zone also has six other files. */
  const collide = async (): Promise<void> => {
    write(far, 'src/auth.ts', rewritten(60, 42, 47, 'mine'));
    there('src/auth.ts', longer());
    for (let n = 1; n <= 6; n += 1) there(`other-${n}.txt`, `${n} ${Math.random()}\n`);
  };
  const CONFLICT = `! ⚠ conflict in src/auth.ts
!     local:  lines 42-47
!     remote: lines 42-51
!   ↳ khlone diff src/auth.ts, then khlone resolve src/auth.ts --keep local|remote|--merge
`;

  it('reports a conflict with both line ranges, overwrites nothing, and pulls the rest', async () => {
    await collide();
    const mine = readHere('src/auth.ts');
    expect(await far.says(['pull'])).toBe(`${CONFLICT}! ✓ 6 other files pulled\n[exit 3]\n`);
    expect(readHere('src/auth.ts')).toBe(mine);
    expect(readHere('other-6.txt')).toBe(readThere('other-6.txt'));
    expect(await far.says(['sync'])).toBe(`${CONFLICT}! ✓ nothing else to send\n[exit 3]\n`);
    expect(readThere('src/auth.ts')).toBe(longer());
    const told = JSON.parse((await far.khlone(['pull', '--json'])).stdout);
    expect(told).toMatchObject({
      zone: 'org/app@main',
      pulled: [],
      conflicts: [
        { path: 'src/auth.ts', ranges: [{ local: { from: 42, to: 47 }, remote: { from: 42, to: 51 } }] },
      ],
    });
  });

  it('shows the conflict in a file, also from a folder below', async () => {
    const shown = await far.khlone(['diff', 'auth.ts'], { cwd: join(far.repo, 'src') });
    expect(shown.code).toBe(0);
    expect(shown.stdout).toMatch(/<<<<<<<.*\nmine 0\n/);
    expect(shown.stdout).toMatch(/theirs 9\n>>>>>>>/);
    expect(shown.stderr).toContain('local:  lines 42-47');
  });

  it('is resolved for the local side, which the next sync sends', async () => {
    expect(await far.says(['resolve', 'src/auth.ts', '--keep', 'local'])).toBe(
      '! ✓ src/auth.ts is decided; khlone sync sends it\n',
    );
    expect(await far.says(['sync'])).toBe('! ✓ 1 file sent\n');
    expect(readThere('src/auth.ts')).toBe(rewritten(60, 42, 47, 'mine'));
    await clean();
  });

  it('is resolved for the remote side, and the replaced version is kept', async () => {
    write(far, 'src/auth.ts', numbered(60, { 9: 'mine' }));
    there('src/auth.ts', numbered(60, { 9: 'theirs' }));
    expect((await far.khlone(['pull'])).code).toBe(3);
    await far.ok(['resolve', 'src/auth.ts', '--keep', 'remote']);
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 9: 'theirs' }));
    const [kept] = JSON.parse((await far.ok(['patch', 'list', '--json'])).stdout).kept;
    expect(kept.files[0].path).toBe('src/auth.ts');
    expect(readFileSync(kept.files[0].kept, 'utf8')).toBe(numbered(60, { 9: 'mine' }));
    await clean();
  });

  it('is resolved in the editor, at a terminal, and not while markers are left', async () => {
    write(far, 'src/auth.ts', numbered(60, { 9: 'mine' }));
    there('src/auth.ts', numbered(60, { 9: 'yours' }));
    expect((await far.khlone(['pull'])).code).toBe(3);
    const editor = join(far.base, 'editor');
    const edit = (script: string) => writeFileSync(editor, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const merge = () =>
      far.khlone(['resolve', 'src/auth.ts', '--merge'], { tty: true, env: { EDITOR: editor } });
    edit('true');
    const left = await merge();
    expect(left.code).toBe(3);
    expect(left.stdout).toContain('conflict markers are left');
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 9: 'mine' }));
    edit('exit 1');
    expect(await merge()).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/✗ the editor ended with 1: .*\s+↳ khlone resolve src\/auth\.ts --merge/),
    });
    const without = ['resolve', 'src/auth.ts', '--merge'];
    expect(await far.khlone(without, { tty: true, env: { EDITOR: '/nowhere/ed' } })).toMatchObject({
      code: 2,
      stdout: expect.stringMatching(/✗ the editor could not be started: .*\s+↳ set EDITOR/),
    });
    edit(
      'tty > /dev/null || exit 9; sed -i "/^|||||||/,/^=======/d; /^[<>]\\{7\\}/d; s/^mine$/both/; /^yours$/d" "$1"',
    );
    const done = await merge();
    expect(done.stdout).toContain('src/auth.ts is decided');
    expect(done.code).toBe(0);
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 9: 'both' }));
    expect(await far.says(['sync'])).toBe('! ✓ 1 file sent\n');
    expect(readThere('src/auth.ts')).toBe(numbered(60, { 9: 'both' }));
    expect((await far.khlone(['resolve', 'src/auth.ts', '--merge'])).code).toBe(2);
    await clean();
  });

  it('stays in the editor as long as the person likes: others sync meanwhile, and a file that changed is left', async () => {
    write(far, 'src/auth.ts', numbered(60, { 9: 'mine' }));
    there('src/auth.ts', numbered(60, { 9: 'edited' }));
    expect((await far.khlone(['pull'])).code).toBe(3);
    write(far, 'meanwhile', '1\n');
    const editor = join(far.base, 'editor');
    const whole = 'sed -i "/^|||||||/,/^=======/d; /^[<>]\\{7\\}/d" "$1"';
    const late = "sed -i 's/^mine$/later/' src/auth.ts";
    writeFileSync(editor, `#!/bin/sh\nkhlone sync\n${late}\n${whole}\n`, { mode: 0o755 });
    const said = await far.khlone(['resolve', 'src/auth.ts', '--merge'], {
      tty: true,
      env: { EDITOR: editor },
    });
    expect(readThere('meanwhile')).toBe('1\n');
    expect(said.stdout).toContain('left src/auth.ts: changed meanwhile');
    expect(said.code).toBe(3);
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 9: 'later' }));
    const kept = /your text is kept: (\S+)/.exec(said.stdout)?.[1] ?? '';
    expect(readFileSync(kept, 'utf8')).toContain('mine\nedited\n');
    await far.ok(['resolve', 'src/auth.ts', '--keep', 'local']);
    await clean();
  });

  it('gives way to pull --force, which first saves the local version', async () => {
    write(far, 'src/auth.ts', numbered(60, { 9: 'mine' }));
    there('src/auth.ts', numbered(60, { 9: 'forced' }));
    expect((await far.khlone(['pull'])).code).toBe(3);
    expect(await far.says(['pull', '--force'])).toBe(
      '! ✓ src/auth.ts is the zone’s; yours is kept: khlone patch list\n! ✓ nothing to pull\n',
    );
    expect(readHere('src/auth.ts')).toBe(numbered(60, { 9: 'forced' }));
    const list = await far.ok(['patch', 'list']);
    const id = /^kept {2}(\S+)/m.exec(list.stdout)?.[1] ?? '';
    const kept = (await far.ok(['patch', 'show', id])).stdout.trim().split(/ {2}/)[1] ?? '';
    expect(readFileSync(kept, 'utf8')).toBe(numbered(60, { 9: 'mine' }));
    await clean();
  });
});
