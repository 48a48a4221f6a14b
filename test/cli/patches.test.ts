import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** A zone that is the person's own worktree has nothing to exchange, and says so. */

describe('patches in a local zone', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
    await world.khlone(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => world?.dispose());

  it('are nothing: both sides are one folder', async () => {
    expect(await world.says(['sync'])).toBe('! this zone is your own worktree: there is nothing to sync\n');
    expect(await world.says(['pull'])).toBe('! this zone is your own worktree: there is nothing to pull\n');
    expect(await world.says(['diff'])).toBe('! this zone is your own worktree: git diff shows its changes\n');
    expect(JSON.parse((await world.khlone(['sync', '--json'])).stdout)).toMatchObject({ sent: [] });
    expect(JSON.parse((await world.khlone(['pull', '--json'])).stdout)).toMatchObject({ pulled: [] });
    expect(JSON.parse((await world.khlone(['diff', '--json'])).stdout)).toMatchObject({ conflicts: [] });
    expect(await world.says(['patch', 'show', 'in'])).toContain('✗ this zone is your own worktree');
    expect(await world.says(['resolve', 'README.md', '--keep', 'local'])).toContain('there is no conflict');
    expect(await world.says(['patch'])).toBe('! nothing is under way, and nothing was kept\n');
    expect(await world.says(['pull', '--all'])).toBe('! no zone is elsewhere: there is nothing to pull\n');
  });
});
