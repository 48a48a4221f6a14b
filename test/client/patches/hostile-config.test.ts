import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Binding } from '../../../src/client/bindings.ts';
import { pullCommits } from '../../../src/client/patches/commits.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { type PatchZone, patchZoneAt } from '../../../src/client/patches/zone.ts';
import { loadSiteConfig } from '../../../src/client/site-config.ts';
import { agree } from '../../../src/client/trust.ts';
import { findWorktree } from '../../../src/client/worktree.ts';
import { commitAll, gitIn, put, ZONE } from '../../patch/ground.ts';
import { CHOICE, freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** A git configuration that names programs wherever git takes one: an exchange of patches starts none of them. */

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides();
});
afterEach(() => sides.remove());

/** Every setting by which git runs something, pointed to a program that leaves a mark. */
const poison = (root: string): string => {
  const mark = join(sides.dir, 'ran');
  const program = join(sides.dir, 'program');
  writeFileSync(program, `#!/bin/sh\necho "$@" >>'${mark}'\ncat\n`, { mode: 0o755 });
  for (const name of [
    'post-checkout',
    'post-index-change',
    'reference-transaction',
    'pre-auto-gc',
    'post-merge',
  ])
    put(root, `.git/hooks/${name}`, `#!/bin/sh\nexec '${program}' ${name}\n`, 0o755);
  const settings = {
    ...{
      'core.fsmonitor': program,
      'core.pager': program,
      'core.editor': program,
      'core.sshCommand': program,
    },
    ...{ 'core.askPass': program, 'core.gitProxy': program, 'core.alternateRefsCommand': program },
    ...{ 'diff.external': program, 'diff.d.textconv': program, 'diff.d.command': program },
    ...{
      'merge.m.driver': program,
      'merge.default': 'm',
      'filter.f.clean': program,
      'filter.f.smudge': program,
    },
    ...{ 'filter.f.process': program, 'filter.f.required': 'true', 'gpg.program': program },
    ...{ 'log.showSignature': 'true', 'credential.helper': program, 'pager.rev-list': program },
    ...{
      'uploadpack.packObjectsHook': program,
      'pack.packObjectsHook': program,
      'interactive.diffFilter': program,
    },
    ...{ 'remote.origin.url': `ext::${program}`, 'remote.origin.promisor': 'true' },
    ...{ 'extensions.partialClone': 'origin', 'core.repositoryFormatVersion': '1' },
    ...{ 'submodule.recurse': 'true', 'fetch.recurseSubmodules': 'true', 'protocol.allow': 'always' },
  };
  for (const [name, value] of Object.entries(settings)) gitIn(root, 'config', name, value);
  put(root, '.git/info/attributes', '* filter=f diff=d merge=m\n');
  return mark;
};

const edit = (): void => {
  put(sides.near, 'edited.txt', 'one\ntwo\nTHREE\n');
  put(sides.far, 'edited.txt', 'ONE\ntwo\nthree\n');
  put(sides.far, 'from-the-zone.txt', 'new\n');
};

/** All that goes both ways: a pull, a sync, and the commits of clones. */
const exchange = async (): Promise<void> => {
  stepped(await pull(sides.place, sides.link, freely));
  stepped(await sync(sides.place, sides.link, freely));
  const zone = { binding: { host: 'devbox' }, place: sides.place } as PatchZone;
  await pullCommits(zone, sides.link, { forward: false });
};

describe('an exchange of patches', () => {
  it('runs nothing that the git configuration in a zone names', async () => {
    put(sides.far, 'committed.txt', 'by a clone\n');
    commitAll(sides.far, 'work of a clone');
    const mark = poison(sides.far);
    edit();
    await exchange();
    expect(gitIn(sides.near, 'for-each-ref', 'refs/remotes/khlone')).toContain('commit');
    expect(existsSync(mark)).toBe(false);
  });

  it('runs nothing that the git configuration of the worktree names', async () => {
    put(sides.far, 'committed.txt', 'by a clone\n');
    commitAll(sides.far, 'work of a clone');
    const mark = poison(sides.near);
    edit();
    await exchange();
    expect(existsSync(mark)).toBe(false);
  });
});

describe('a khlone.yml that a pull brought', () => {
  it('names no private file that travels before a person agreed to it', async () => {
    const home = { trust: join(sides.dir, 'trust.json') };
    const worktree = await findWorktree(sides.near);
    if (!worktree) throw new Error('no worktree');
    const binding = { root: worktree.root, host: 'devbox', zone: ZONE } as Binding;
    const written = 'zone: { mode: ssh, host: devbox }\n';
    put(sides.near, 'khlone.yml', written);
    await agree(home, worktree, await loadSiteConfig(worktree.root));
    expect((await patchZoneAt(home, binding)).place.choice.include).toEqual([]);

    const asks = { code: 'not-trusted' };
    put(sides.near, 'khlone.yml', 'sync: { include: ["*nv"] }\n');
    await expect(patchZoneAt(home, binding), 'the zone stays elsewhere').rejects.toMatchObject(asks);
    put(sides.near, 'khlone.yml', `${written}sync: { include: ["*nv"] }\n`);
    await expect(patchZoneAt(home, binding)).rejects.toMatchObject(asks);
    await agree(home, worktree, await loadSiteConfig(worktree.root));
    expect((await patchZoneAt(home, binding)).place.choice.include).toEqual(['*nv']);
    for (const zone of [written, '']) {
      put(sides.near, 'khlone.yml', `${zone}sync: { auto: true }\n`);
      await expect(patchZoneAt(home, binding), 'nothing begins by itself').rejects.toMatchObject(asks);
    }
    put(sides.near, 'khlone.yml', written);
    await expect(patchZoneAt(home, binding), 'less needs no yes').resolves.toBeDefined();
  });

  it('sends no larger files and no longer history before a person agreed to it', async () => {
    const home = { trust: join(sides.dir, 'trust.json') };
    const worktree = await findWorktree(sides.near);
    if (!worktree) throw new Error('no worktree');
    const binding = { root: worktree.root, host: 'devbox', zone: ZONE } as Binding;
    for (const loose of ['sync: { max_file: 11MB }\n', 'repo: { history: full }\n']) {
      put(sides.near, 'khlone.yml', loose);
      await expect(patchZoneAt(home, binding), loose).rejects.toMatchObject({ code: 'not-trusted' });
      await agree(home, worktree, await loadSiteConfig(worktree.root));
      await expect(patchZoneAt(home, binding), loose).resolves.toBeDefined();
    }
    put(sides.near, 'khlone.yml', 'sync: { max_file: 9MB }\n');
    await expect(patchZoneAt(home, binding), 'less needs no yes').resolves.toBeDefined();
  });

  it('does not send what was too large under an earlier one, until it is named', async () => {
    const small = { ...sides.place, choice: { ...CHOICE, maxFileBytes: 1000 } };
    put(sides.near, 'private.bin', Buffer.alloc(2000, 'private'));
    put(sides.near, 'staged.bin', Buffer.alloc(2000, 'staged'));
    gitIn(sides.near, 'add', 'staged.bin');
    put(sides.near, 'edited.txt', Buffer.alloc(2000, 'edited'));
    put(sides.far, 'khlone.yml', '# no limit any more\n');
    stepped(await pull(small, sides.link, freely));
    const { meeting } = stepped(await sync(sides.place, sides.link, freely));
    const why = 'was larger than max_file until a pull';
    expect(meeting.plan.held).toEqual(
      ['edited.txt', 'private.bin', 'staged.bin'].map((path) => ({ path, why })),
    );
    for (const path of ['private.bin', 'staged.bin']) expect(existsSync(join(sides.far, path))).toBe(false);
    stepped(await sync(sides.place, sides.link, { ...freely, files: ['private.bin'] }));
    expect(existsSync(join(sides.far, 'private.bin'))).toBe(true);
  });

  it('does not send what an earlier one excluded, until it is named', async () => {
    const excluding = (...exclude: string[]) => ({ ...sides.place, choice: { ...CHOICE, exclude } });
    put(sides.near, 'private/notes.txt', 'mine\n');
    put(sides.near, 'open.txt', 'for all\n');
    put(sides.far, 'khlone.yml', 'sync: { exclude: [] }\n');
    stepped(await pull(excluding('private', 'absent'), sides.link, freely));
    for (const _ of [1, 2]) {
      const { meeting } = stepped(await sync(excluding(), sides.link, freely));
      expect(meeting.plan.held).toMatchObject([
        { path: 'private/notes.txt', why: 'was excluded until a pull' },
      ]);
      expect(existsSync(join(sides.far, 'private'))).toBe(false);
      expect(existsSync(join(sides.far, 'open.txt'))).toBe(true);
    }
    stepped(await sync(excluding(), sides.link, { ...freely, files: ['private'] }));
    expect(existsSync(join(sides.far, 'private/notes.txt'))).toBe(true);
  });
});
