import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findView, type View } from '../../src/brains/view.ts';
import { probeView } from '../../src/brains/view-probe.ts';
import { currentOwner } from '../../src/brains/view-tools.ts';
import { asOwner, groundParent } from './escape-ground.ts';

const self = currentOwner();
const stranger = { uid: 65_534, gid: 65_534 };
const allowed =
  spawnSync('unshare', [...(self.uid === 0 ? [] : ['--map-root-user']), '--mount', 'true']).status === 0;

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(groundParent(), 'khlone-probe-'));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('the probe', () => {
  /** In a mount namespace of its own: without a view, what the probe tries would be done to this machine. */
  const apart = self.uid === 0 ? ['unshare', '--mount', '--propagation', 'private', '--'] : [];
  const broken = (program: string[]): View => ({
    kind: 'bwrap',
    wrap: (argv) => ({ argv: [...apart, ...program, ...argv] }),
  });

  it('refuses a view that does nothing', async () => {
    const failure = await probeView(broken([]), 'ask', root);
    for (const hole of [
      'can write',
      'hidden file can be read',
      'outside process can be reached',
      'hidden socket',
    ])
      expect(failure).toContain(hole);
  });

  it.runIf(allowed)('refuses a read-only file system in which sockets are reached', async () => {
    const failure = await probeView(
      broken(['bwrap', '--ro-bind', '/', '/', '--dev', '/dev', '--']),
      'ask',
      root,
    );
    expect(failure).toContain('a hidden socket can be reached');
  });

  it('refuses what does not start, and says why', async () => {
    expect(await probeView(broken(['sh', '-c', 'echo no namespaces here >&2; exit 1']), 'ask', root)).toBe(
      'no namespaces here',
    );
    expect(await probeView(broken(['/nowhere/bwrap']), 'ask', root)).toMatch(/ENOENT|No such file/);
  });

  it('leaves nothing behind', async () => {
    await probeView(broken([]), 'act', root);
    expect(readdirSync(root)).toEqual([]);
  });

  it.runIf(allowed)('finds a view that holds, also as an ordinary user', async () => {
    const found = await findView({ env: process.env, tempDir: root });
    expect(found).toMatchObject({ view: { kind: /./ }, why: expect.stringMatching(/holds$/) });
    if (self.uid !== 0) return;
    const module = new URL('../../src/brains/view.ts', import.meta.url).href;
    const code = `const { findView } = await import(${JSON.stringify(module)});
      console.log((await findView({ env: process.env, tempDir: ${JSON.stringify(tmpdir())} })).why)`;
    const [program = '', ...rest] = asOwner(stranger, [process.execPath, '--input-type=module', '-e', code]);
    const { stdout, stderr } = spawnSync(program, rest, { encoding: 'utf8', cwd: '/' });
    expect(stdout + stderr).toMatch(/holds\n$/);
  });
});
