import { spawn } from 'node:child_process';
import { once as event } from 'node:events';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Manifest } from '../../src/patch/manifest.ts';
import {
  bytesOf,
  commitAll,
  dirsOf,
  gitIn,
  looseStatus,
  makeDirty,
  makeGround,
  makeRepo,
  once,
  pack,
  put,
  unpackAt,
  ZONE,
} from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let near = '';
let far = '';
beforeEach(() => {
  ground = makeGround();
  near = makeRepo(ground.dir);
  far = join(ground.dir, 'zones', 'org', 'repo', 'main');
});
afterEach(() => ground.remove());

describe('unpacking', () => {
  const parts = async () => {
    makeDirty(near);
    const { manifest, body } = await pack(near);
    return { manifest, bytes: await bytesOf(body) };
  };
  const siblings = (): string[] => readdirSync(join(far, '..')).filter((name) => name !== 'main');

  it('recognises what it finished, and leaves the work that was done there', async () => {
    const { manifest, bytes } = await parts();
    await unpackAt(far, manifest, once(bytes));
    put(far, 'work.txt', 'by a clone\n');
    const head = commitAll(far, 'by a clone');
    put(far, 'uncommitted.txt', 'too\n');
    const again = await unpackAt(far, manifest, once(bytes));
    expect(again.head).toBe(head);
    expect(readFileSync(join(far, 'uncommitted.txt'), 'utf8')).toBe('too\n');
    const other = unpackAt(far, manifest, once(bytes), 'z-ffffffffffffffff');
    await expect(other).rejects.toThrow(/is another zone's/u);
  });

  it("takes an empty folder, and refuses what is not khlone's", async () => {
    const { manifest, bytes } = await parts();
    const at = (path: string) => unpackAt(path, manifest, once(bytes));
    mkdirSync(far, { recursive: true });
    await at(far);
    put(join(ground.dir, 'theirs'), 'thesis.txt', 'mine\n');
    await expect(at(join(ground.dir, 'theirs'))).rejects.toThrow(/is not empty and not khlone's/u);
    await expect(at(near)).rejects.toMatchObject({ code: 'conflict' });
    put(ground.dir, 'file', 'x');
    await expect(at(join(ground.dir, 'file'))).rejects.toMatchObject({ code: 'conflict' });
    symlinkSync(far, join(ground.dir, 'link'));
    await expect(at(join(ground.dir, 'link'))).rejects.toMatchObject({ code: 'conflict' });
    expect(readdirSync(join(ground.dir, 'theirs'))).toEqual(['thesis.txt']);
  });

  it('leaves nothing behind when the pack breaks off, is damaged, or lacks something', async () => {
    const { manifest, bytes } = await parts();
    const at = (body: AsyncIterable<Uint8Array>, more: Partial<Manifest> = {}) =>
      unpackAt(far, { ...manifest, ...more }, body);
    async function* lost(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, bytes.length / 2);
      throw new Error('the link went down');
    }
    await expect(at(lost())).rejects.toThrow(/the link went down/u);
    await expect(at(once(bytes.subarray(0, bytes.length - 30)))).rejects.toThrow(/early EOF/u);
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    await expect(at(once(flipped))).rejects.toThrow(/refused the carried code/u);
    await expect(at(once(bytes), { tree: 'a'.repeat(40) })).rejects.toThrow(/refused/u);
    await expect(at(once(bytes), { head: 'b'.repeat(40) })).rejects.toThrow(/refused/u);
    await expect(at(once(bytes), { branch: '../../x' })).rejects.toThrow(/check-ref-format/u);
    const noCommit = gitIn(near, 'rev-parse', 'HEAD^{tree}').trim();
    await expect(at(once(bytes), { head: noCommit })).rejects.toThrow(/refused/u);
    expect(existsSync(far)).toBe(false);
    expect(siblings()).toEqual([]);
    expect((await at(once(bytes))).head).toBe(manifest.head);
    expect(looseStatus(far)).toEqual(looseStatus(near));
  });

  it('ends right after a process died in its middle, and removes what that one left', async () => {
    const { manifest, bytes } = await parts();
    put(ground.dir, 'pack.bin', bytes);
    const program = `
      import { readFileSync } from 'node:fs';
      import { unpackWorktree } from ${JSON.stringify(join(import.meta.dirname, '../../src/patch/unpack.ts'))};
      async function* body() {
        yield readFileSync(${JSON.stringify(join(ground.dir, 'pack.bin'))}).subarray(0, 400);
        process.stdout.write('half');
        await new Promise((resolve) => setTimeout(resolve, 60_000));
      }
      await unpackWorktree({ manifest: ${JSON.stringify(manifest)}, body: body(), path: ${JSON.stringify(far)}, zone: ${JSON.stringify(ZONE)}, shadowDir: ${JSON.stringify(join(ground.dir, 'shadows', ZONE))} });`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await event(child.stdout, 'data');
    child.kill('SIGKILL');
    await event(child, 'exit');
    expect(siblings()).toHaveLength(1);
    expect(existsSync(far)).toBe(false);
    await unpackAt(far, manifest, once(bytes));
    expect(siblings()).toEqual([]);
    expect(looseStatus(far)).toEqual(looseStatus(near));
  });

  it('refuses hostile trees', async () => {
    const blob = gitIn(near, 'hash-object', '-w', 'kept.txt').trim();
    const raw = (mode: string, name: string, id: string): Buffer =>
      Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(id, 'hex')]);
    const treeOf = (...entries: Buffer[]): string => {
      put(ground.dir, 'tree.raw', Buffer.concat(entries));
      const file = join(ground.dir, 'tree.raw');
      return gitIn(near, 'hash-object', '-t', 'tree', '-w', '--literally', file).trim();
    };
    const inner = treeOf(raw('100644', 'config', blob));
    const hostile = {
      dotGit: treeOf(raw('40000', '.git', inner)),
      upper: treeOf(raw('40000', '.GIT', inner)),
      short: treeOf(raw('40000', 'git~1', inner)),
      hfs: treeOf(raw('40000', '.g\u200cit', inner)),
      ntfs: treeOf(raw('40000', '.git.', inner)),
      dotdot: treeOf(raw('40000', '..', inner)),
      dot: treeOf(raw('40000', '.', inner)),
      slash: treeOf(raw('100644', 'a/b', blob)),
      absolute: treeOf(raw('100644', '/etc/x', blob)),
      empty: treeOf(raw('100644', '', blob)),
      linkAndFolder: treeOf(raw('120000', 'a', blob), raw('40000', 'a', inner)),
      modules: treeOf(raw('120000', '.gitmodules', blob)),
    };
    for (const [what, tree] of Object.entries(hostile)) {
      const env = { ...process.env, GIT_DIR: dirsOf(near).gitDir };
      const packing = spawn('git', ['pack-objects', '--stdout', '-q'], { env });
      packing.stdin.end(`${[...new Set([tree, inner, blob])].join('\n')}\n`);
      const body = await bytesOf(packing.stdout);
      const manifest: Manifest = { version: 1, format: 'sha1', branch: 'main', tree, shallow: [] };
      expect(body.length, what).toBeGreaterThan(60);
      const made = unpackAt(far, manifest, once(body));
      await expect(made, what).rejects.toThrow(/fsck error in packed object/u);
      expect(lstatSync(far, { throwIfNoEntry: false }), what).toBeUndefined();
    }
    expect(siblings()).toEqual([]);
  });
});
