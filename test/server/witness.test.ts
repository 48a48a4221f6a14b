import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LiveRun } from '../../src/server/run.ts';
import type { ZoneRow } from '../../src/server/store/zones.ts';
import { changedSince, keepWitness, violationOf, witnessed } from '../../src/server/witness.ts';
import { addTask, addZone, openGround, type StoreGround } from './store-ground.ts';

describe('what a worktree was at the start of a turn', () => {
  let deps: StoreGround;
  let zone: ZoneRow;
  const git = (...words: string[]) =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@localhost', ...words], { cwd: zone.path });

  beforeEach(async () => {
    deps = openGround();
    mkdirSync(join(deps.root, 'repository'));
    zone = await addZone(deps, { path: join(deps.root, 'repository') });
    git('init', '-q', '-b', 'main');
    writeFileSync(join(zone.path, 'kept.txt'), 'as it was\n');
    git('add', '.');
    git('commit', '-q', '-m', 'first');
  });

  afterEach(() => deps.dispose());

  const run = (): LiveRun => {
    mkdirSync(join(deps.root, 'run'), { recursive: true });
    return { dir: join(deps.root, 'run') } as LiveRun;
  };

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
    expect(readFileSync(join(deps.root, 'run', 'ask-changed.patch'), 'utf8')).toContain('+changed');
    expect(readFileSync(join(zone.path, 'kept.txt'), 'utf8')).toBe('changed\n');
  });

  it('an ask that only committed is a violation without a patch', async () => {
    const before = await witnessed(deps, zone);
    git('commit', '-q', '--allow-empty', '-m', 'by an ask');
    expect(before && (await violationOf(deps, zone, run(), before))).toMatchObject({ error: 'ask-changed' });
    expect(existsSync(join(deps.root, 'run', 'ask-changed.patch'))).toBe(false);
  });

  it('a retry is told what changed since the attempt began, and that nothing did', async () => {
    const { id } = await addTask(deps);
    expect(await changedSince(deps, zone, id)).toBeUndefined();
    const before = await witnessed(deps, zone);
    if (before) await deps.store.write(() => keepWitness(deps.store, id, before));
    expect(await changedSince(deps, zone, id)).toContain('Nothing in the worktree has changed');
    writeFileSync(join(zone.path, 'new "file".txt'), 'x\n');
    expect(await changedSince(deps, zone, id)).toContain('new \\"file\\".txt');
  });

  it('outside of a repository nothing is witnessed, and nothing fails', async () => {
    rmSync(join(zone.path, '.git'), { recursive: true });
    expect(await witnessed(deps, zone)).toBeUndefined();
  });
});
