import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findBrain } from '../../src/brains/registry.ts';
import type { App } from '../../src/client/app.ts';
import { brainFiles } from '../../src/client/brain-files.ts';
import type { Connected } from '../../src/client/link/link.ts';
import type { Place } from '../../src/client/place.ts';
import { sensitiveParts } from '../../src/client/sensitive.ts';
import { parseSiteConfig } from '../../src/client/site-config-parse.ts';
import { agree, needsTrust } from '../../src/client/trust.ts';
import { snapshotBinding } from '../../src/client/worksite-snapshot.ts';

describe('a repository that was only cloned', () => {
  let root: string;

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'khlone-hostile-')));
    mkdirSync(join(root, 'clone', '.git', 'info'), { recursive: true });
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const snapshot = (): Promise<void> => {
    const zone = {
      ...{
        id: 'z-0123456789abcdef',
        address: 'a/b@main',
        branch: 'main',
        mode: 'local',
        path: join(root, 'clone'),
      },
      ...{
        state: 'ready',
        epoch: 'e',
        seq: 1,
        paused: false,
        crew: [],
        attention: [],
        costUsd: 0,
        tokens: 0,
      },
    };
    const peer = { call: async () => ({ value: { zone }, body: undefined }) };
    const place = {
      binding: { ...zone, root: join(root, 'clone'), zone: zone.id, host: 'local' },
      worktree: { commonDir: join(root, 'clone', '.git') },
    };
    const app = { home: { root } };
    return snapshotBinding(app as App, place as unknown as Place, { peer } as unknown as Connected);
  };

  it('cannot have a file of the person overwritten by a link where the binding is written', async () => {
    const victim = join(root, 'victim');
    writeFileSync(victim, 'precious');
    const dir = join(root, 'clone', '.khlone', '.bind.worksite');
    mkdirSync(dir, { recursive: true });
    for (const name of ['zone.yml', 'zone.yml.new']) symlinkSync(victim, join(dir, name));
    await snapshot();
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(readFileSync(join(dir, 'zone.yml'), 'utf8')).toContain('a/b@main');
  });

  it('cannot lead the binding out of the worktree by a linked folder', async () => {
    const elsewhere = join(root, 'elsewhere', '.bind.worksite');
    mkdirSync(elsewhere, { recursive: true });
    writeFileSync(join(elsewhere, 'zone.yml'), 'precious');
    symlinkSync(join(root, 'elsewhere'), join(root, 'clone', '.khlone'));
    await snapshot();
    expect(readFileSync(join(elsewhere, 'zone.yml'), 'utf8')).toBe('precious');
  });

  it('cannot turn sentences into scripts: sh as a brain is something to agree to', () => {
    const wishes = [
      'crew: { brains: { quick: sh } }',
      'crew: { defaults: { brain: sh } }',
      'crew: { clone.0: { role: mechanic, brain: sh } }',
    ];
    for (const text of wishes) {
      expect(sensitiveParts(parseSiteConfig(text, 'khlone.yml')).map((part) => part.kind)).toEqual(['run']);
    }
  });

  it('cannot put another brain behind a built-in name', () => {
    expect(findBrain('claude', { claude: 'sh' }).brain.name).toBe('claude');
  });

  it('gives its hooks and tool servers to nobody before a person agreed to their content', async () => {
    const home = { trust: join(root, 'trust.json') };
    const repository = { org: 'a', repo: 'b', commonDir: join(root, 'clone', '.git') };
    const config = parseSiteConfig('', 'khlone.yml');
    const asks = async () => needsTrust(home, repository, config, brainFiles(join(root, 'clone')));
    expect(await asks()).toBeUndefined();
    writeFileSync(join(root, 'clone', '.mcp.json'), '{"mcpServers":{}}');
    expect((await asks())?.text).toContain('.mcp.json');
    await agree(home, repository, config, brainFiles(join(root, 'clone')));
    expect(await asks()).toBeUndefined();
    writeFileSync(join(root, 'clone', '.mcp.json'), '{"mcpServers":{"evil":{}}}');
    expect(await asks()).toBeDefined();
  });
});
