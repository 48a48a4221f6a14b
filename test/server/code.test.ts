import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  bringEnvironment,
  call,
  makeZone,
  POLICY,
  startServer,
  type TestServer,
  untilTask,
} from '../fixtures/server.ts';
import {
  bytesOf,
  commitAll,
  gitIn,
  looseStatus,
  makeDirty,
  makeGround,
  makeRepo,
  once,
  pack,
  put,
} from '../patch/ground.ts';

let ground: ReturnType<typeof makeGround>;
let server: TestServer;
let peer: Peer;
let near = '';
beforeAll(async () => {
  ground = makeGround();
  near = makeRepo(ground.dir);
  makeDirty(near);
  server = await startServer();
  peer = await server.peer();
}, 60_000);
afterAll(async () => {
  await server.dispose();
  ground.remove();
}, 30_000);

let count = 0;
const remoteZone = (): ZoneSpec => {
  count += 1;
  const zone = makeZone(server, { mode: 'ssh' });
  return { ...zone, path: join(server.work, 'zones', `repo-${count}`, 'main') };
};
const send = async (zone: ZoneSpec): Promise<{ head: string; files: number }> => {
  const { manifest, body } = await pack(near);
  const { value } = await peer.call('code.put', { zone: zone.id, manifest }, { body, timeoutMs: 60_000 });
  return value as { head: string; files: number };
};
const open = (zone: ZoneSpec) =>
  call<{ needsCode: boolean; zone: { state: string } }>(peer, 'zone.open', { zone, policy: POLICY });
const carried = async (): Promise<ZoneSpec> => {
  const zone = remoteZone();
  await open(zone);
  await send(zone);
  return zone;
};
const remove = (zone: ZoneSpec, force = false) =>
  call<{ deleted: boolean; kept?: string }>(peer, 'zone.del', { zone: zone.id, force });

describe('the first code of a zone', () => {
  it('lets the tasks go on that waited for it', async () => {
    const zone = remoteZone();
    const { task } = await addTask(peer, zone, 'cat edited.txt; git status --porcelain | wc -l');
    await bringEnvironment(peer, server, zone);
    expect((await open(zone)).needsCode).toBe(true);
    const put = await send(zone);
    expect(put.head).toBe(gitIn(near, 'rev-parse', 'HEAD').trim());
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
    expect(looseStatus(zone.path)).toEqual(looseStatus(near));
    expect((await open(zone)).needsCode).toBe(false);
    expect(await send(zone)).toEqual(put);
  }, 60_000);

  it('is built once, however many bring it at once', async () => {
    const zone = remoteZone();
    await open(zone);
    const all = await Promise.all([send(zone), send(zone), send(zone)]);
    expect(new Set(all.map((one) => JSON.stringify(one))).size).toBe(1);
    expect(readdirSync(dirname(zone.path))).toEqual(['main']);
  });

  it('can be brought again after it broke off, and is refused with a reason where it cannot be', async () => {
    const zone = remoteZone();
    await expect(send(zone)).rejects.toMatchObject({ code: 'not-found' });
    await open(zone);
    const { manifest, body } = await pack(near);
    const bytes = await bytesOf(body);
    const half = { body: once(bytes.subarray(0, 500)), timeoutMs: 30_000 };
    await expect(peer.call('code.put', { zone: zone.id, manifest }, half)).rejects.toThrow(/early EOF/u);
    const wrong = { zone: zone.id, manifest: { ...manifest, branch: 3 } };
    await expect(peer.call('code.put', wrong, { body: once(bytes) })).rejects.toMatchObject({
      code: 'invalid-params',
    });
    await expect(peer.call('code.put', { zone: zone.id, manifest })).rejects.toMatchObject({
      code: 'invalid-params',
    });
    const local = makeZone(server);
    await call(peer, 'zone.open', { zone: local, policy: POLICY });
    await expect(send(local)).rejects.toMatchObject({ code: 'conflict' });
    put(zone.path, 'theirs.txt', 'not ours');
    await expect(send(zone)).rejects.toMatchObject({ code: 'conflict' });
    expect((await open(zone)).needsCode).toBe(true);
    const other = remoteZone();
    await open(other);
    await send(other);
  });
});

describe('a removed zone', () => {
  it('takes its folder along when nothing was done there', async () => {
    const zone = await carried();
    expect(await remove(zone)).toEqual({ deleted: true });
    expect(existsSync(zone.path)).toBe(false);
    expect(readdirSync(dirname(zone.path))).toEqual([]);
    await open(zone);
    await send(zone);
    expect(looseStatus(zone.path)).toEqual(looseStatus(near));
  });

  it('refuses while it holds work, and with force saves what brings the work back', async () => {
    const zone = await carried();
    put(zone.path, 'by-clone.txt', 'commit\n');
    gitIn(zone.path, 'add', 'by-clone.txt');
    gitIn(zone.path, 'commit', '-q', '-m', 'work');
    put(zone.path, '.env', 'made here\n');
    put(zone.path, 'edited.txt', 'edited by a clone\n');
    put(zone.path, 'locked/deep/file.txt', 'x\n');
    await expect(remove(zone)).rejects.toThrow(
      /holds work that is only there: 4 changed files and 1 commit/u,
    );
    expect(existsSync(join(zone.path, 'by-clone.txt'))).toBe(true);
    const wanted = commitAll(zone.path, 'for comparison only');
    const tree = gitIn(zone.path, 'rev-parse', `${wanted}^{tree}`);
    gitIn(zone.path, 'reset', '-q', '--mixed', 'HEAD~1');
    const { kept = '' } = await remove(zone, true);
    expect(existsSync(zone.path)).toBe(false);
    expect(kept).toMatch(/recovery\/z-[^/]*\.patch$/u);
    expect(statSync(kept).mode & 0o777).toBe(0o600);
    const again = remoteZone();
    await open(again);
    await send(again);
    gitIn(again.path, 'apply', kept);
    const bundle = kept.replace(/patch$/u, 'bundle');
    expect(statSync(bundle).mode & 0o777).toBe(0o600);
    gitIn(again.path, 'bundle', 'verify', bundle);
    gitIn(again.path, 'fetch', '-q', bundle, 'refs/heads/main:refs/heads/rescued');
    expect(gitIn(again.path, 'log', '-1', '--format=%s', 'rescued')).toBe('work\n');
    gitIn(again.path, 'add', '-A');
    expect(gitIn(again.path, 'write-tree')).toBe(tree);
  });

  it('counts a stash, and commits that only another branch has', async () => {
    const zone = await carried();
    const commit = (message: string): string =>
      gitIn(zone.path, 'commit-tree', '-m', message, 'HEAD^{tree}').trim();
    gitIn(zone.path, 'update-ref', 'refs/stash', commit('stashed'));
    await expect(remove(zone)).rejects.toThrow(/only there: 1 commit$/u);
    gitIn(zone.path, 'branch', 'aside', commit('aside'));
    await expect(remove(zone)).rejects.toThrow(/only there: 2 commits$/u);
  });

  it('with a repository inside is kept whole under another name', async () => {
    const zone = await carried();
    makeRepo(zone.path, 'inside');
    await expect(remove(zone)).rejects.toThrow(/only there: 1 repository inside$/u);
    const { kept = '' } = await remove(zone, true);
    expect(existsSync(zone.path)).toBe(false);
    expect(gitIn(join(kept, 'inside'), 'log', '--format=%s')).toBe('first\n');
  });

  it('runs nothing that a clone named in the zone', async () => {
    const zone = await carried();
    const ran = join(server.work, 'ran');
    put(server.work, 'canary', `#!/bin/sh\ntouch '${ran}'\n`, 0o755);
    const canary = join(server.work, 'canary');
    for (const key of [
      'core.fsmonitor',
      'core.sshCommand',
      'diff.external',
      'filter.x.clean',
      'core.pager',
    ]) {
      gitIn(zone.path, 'config', key, canary);
    }
    gitIn(zone.path, 'config', 'remote.evil.url', 'ssh://host/x');
    gitIn(zone.path, 'config', 'remote.evil.promisor', 'true');
    gitIn(zone.path, 'config', 'extensions.partialClone', 'evil');
    for (const hook of ['reference-transaction', 'post-index-change'])
      put(zone.path, `.git/hooks/${hook}`, `#!/bin/sh\ntouch '${ran}'\n`, 0o755);
    put(zone.path, '.git/info/attributes', '* filter=x diff=x\n');
    put(zone.path, '.git/refs/heads/missing', `${'1'.repeat(40)}\n`);
    put(zone.path, 'changed.txt', 'x\n');
    await remove(zone, true).catch(() => undefined);
    expect(existsSync(ran)).toBe(false);
  });

  it("leaves what khlone did not make: a local zone, a stranger's folder, a symbolic link", async () => {
    const local = makeZone(server, { path: near });
    await open(local);
    expect(await remove(local, true)).toEqual({ deleted: true });
    expect(existsSync(join(near, 'edited.txt'))).toBe(true);
    const strange = remoteZone();
    await open(strange);
    put(strange.path, 'thesis.txt', 'mine');
    expect(await remove(strange, true)).toEqual({ deleted: true });
    expect(readFileSync(join(strange.path, 'thesis.txt'), 'utf8')).toBe('mine');
    const target = await carried();
    const linked = remoteZone();
    await open(linked);
    mkdirSync(dirname(linked.path), { recursive: true });
    symlinkSync(target.path, linked.path);
    expect(await remove(linked, true)).toEqual({ deleted: true });
    expect(existsSync(join(target.path, 'kept.txt'))).toBe(true);
  });
});
