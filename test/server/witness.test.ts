import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Policy } from '../../src/protocol/calls.ts';
import type { LiveRun } from '../../src/server/run.ts';
import { openStore, type Store } from '../../src/server/store/store.ts';
import type { TaskRow } from '../../src/server/store/tasks.ts';
import { findOrMakeZone, type ZoneRow } from '../../src/server/store/zones.ts';
import { changedSince, violationOf, witnessed } from '../../src/server/witness.ts';

const POLICY: Policy = {
  ...{
    heroRole: 'mechanic',
    brains: {},
    roles: {},
    maxClones: 8,
    maxQueue: 100,
    sandbox: 'zone',
    trusted: true,
  },
};

describe('what a worktree was at the start of a turn', () => {
  let root: string;
  let store: Store;
  let zone: ZoneRow;
  let deps: { store: Store; zonesDir: string };
  const git = (...words: string[]) =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@localhost', ...words], { cwd: zone.path });

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'khlone-witness-'));
    const zonesDir = join(root, 'zones');
    mkdirSync(zonesDir);
    mkdirSync(join(root, 'repository'));
    store = openStore(join(root, 'state.db'), zonesDir);
    deps = { store, zonesDir };
    const spec = { id: 'z-0123456789abcdef', address: 'a/b@main', branch: 'main', mode: 'local' } as const;
    const made = { ...spec, path: join(root, 'repository') };
    zone = (await store.write(() => findOrMakeZone(store, zonesDir, made, POLICY, Date.now()))).zone;
    git('init', '-q', '-b', 'main');
    writeFileSync(join(zone.path, 'kept.txt'), 'as it was\n');
    git('add', '.');
    git('commit', '-q', '-m', 'first');
  });

  afterEach(() => {
    store.close();
    rmSync(root, { recursive: true, force: true });
  });

  const run = (): LiveRun => {
    mkdirSync(join(root, 'run'), { recursive: true });
    return { dir: join(root, 'run') } as LiveRun;
  };
  const taskOf = (tree: unknown): TaskRow => ({ tree: JSON.stringify(tree) }) as unknown as TaskRow;

  it('an ask that changed nothing is no violation', async () => {
    const before = await witnessed(deps, zone);
    expect(before && (await violationOf(deps, zone, run(), before))).toBeUndefined();
  });

  it('an ask that wrote is told with its paths, kept as a patch, and undone by nobody', async () => {
    const before = await witnessed(deps, zone);
    writeFileSync(join(zone.path, 'kept.txt'), 'changed\n');
    const violation = before && (await violationOf(deps, zone, run(), before));
    expect(violation).toMatchObject({ type: 'failed', error: 'ask-changed' });
    expect(violation).toHaveProperty('message', expect.stringContaining('kept.txt'));
    expect(readFileSync(join(root, 'run', 'ask-changed.patch'), 'utf8')).toContain('+changed');
    expect(readFileSync(join(zone.path, 'kept.txt'), 'utf8')).toBe('changed\n');
  });

  it('an ask that only committed is a violation without a patch', async () => {
    const before = await witnessed(deps, zone);
    git('commit', '-q', '--allow-empty', '-m', 'by an ask');
    expect(before && (await violationOf(deps, zone, run(), before))).toMatchObject({ error: 'ask-changed' });
    expect(existsSync(join(root, 'run', 'ask-changed.patch'))).toBe(false);
  });

  it('a retry is told what changed since the attempt began, and that nothing did', async () => {
    const before = await witnessed(deps, zone);
    expect(await changedSince(deps, zone, taskOf(before))).toContain('Nothing in the worktree has changed');
    writeFileSync(join(zone.path, 'new "file".txt'), 'x\n');
    expect(await changedSince(deps, zone, taskOf(before))).toContain('new \\"file\\".txt');
  });

  it('outside of a repository nothing is witnessed, and nothing fails', async () => {
    rmSync(join(zone.path, '.git'), { recursive: true });
    expect(await witnessed(deps, zone)).toBeUndefined();
  });
});
