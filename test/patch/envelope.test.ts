import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openEnvelope, sealEnvelope } from '../../src/patch/envelope.ts';
import { openShadow, type Shadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { commitOf } from '../../src/patch/synthetic-commit.ts';
import type { Envelope } from '../../src/protocol/patch.ts';
import { until } from '../fixtures/khlone.ts';
import { gitIn, makeDirty, makeGround, makeRepo, put, snapshotWish } from './ground.ts';
import { modelsOf, storeTrees, triples } from './random-trees.ts';

const LONG = process.env.KHLONE_LONG === '1';

let ground: ReturnType<typeof makeGround>;
let near = '';
let from: Shadow;
let to: Shadow;
let n = 0;

beforeEach(async () => {
  ground = makeGround();
  near = makeRepo(ground.dir);
  const far = join(ground.dir, 'far');
  mkdirSync(far);
  gitIn(far, 'init', '-q');
  const [a, b] = [snapshotWish(near), snapshotWish(far)];
  from = await openShadow(a, a.shadowDir, 60_000);
  to = await openShadow(b, b.shadowDir, 60_000);
});
afterEach(() => ground.remove());

const file = (): string => join(ground.dir, `payload-${n++}`);
const treeNow = async (): Promise<string> => (await snapshotTree(snapshotWish(near))).tree;
async function* bytesOf(payload: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < payload.length; at += 1000) yield payload.subarray(at, at + 1000);
}

const seal = async (base: string | undefined, result: string) => {
  const path = file();
  const { envelope, payload } = await sealEnvelope(from, { base, result }, path);
  return { envelope, payload: await buffer(payload) };
};
const openIn = (shadow: Shadow, envelope: Envelope, payload: Uint8Array): Promise<void> =>
  openEnvelope(shadow, envelope, bytesOf(payload), file());

const holds = async (shadow: Shadow, tree: string): Promise<boolean> =>
  (await shadow.run(['rev-list', '--objects', '--quiet', tree, '--'])).code === 0;

/** Both sides have the first state. */
const agree = async (): Promise<string> => {
  const base = await treeNow();
  const { envelope, payload } = await seal(undefined, base);
  await openIn(to, envelope, payload);
  return base;
};

const sealed = (envelope: Partial<Envelope>, payload: Buffer): Envelope => ({
  ...{ version: 1, kind: 'patch', result: '0'.repeat(40) },
  ...envelope,
  bytes: payload.length,
  sha256: createHash('sha256').update(payload).digest('hex'),
});

describe('an envelope', () => {
  it('carries every kind of change to a side that has only the base', async () => {
    const base = await agree();
    makeDirty(near);
    const result = await treeNow();
    const { envelope, payload } = await seal(base, result);
    await openIn(to, envelope, payload);
    expect(await holds(to, result)).toBe(true);
  });

  it('carries a link that was moved out of the way of a folder, which git does not apply as a rename', async () => {
    symlinkSync('elsewhere', join(near, 'linked'));
    const base = await agree();
    renameSync(join(near, 'linked'), join(near, 'moved'));
    put(near, 'linked/inside.txt', 'a\n');
    const results = [await treeNow()];
    rmSync(join(near, 'linked/inside.txt'));
    renameSync(join(near, 'moved'), join(near, 'linked/same\nname'));
    results.push(await treeNow());
    for (const result of results) {
      const { envelope, payload } = await seal(base, result);
      expect(envelope.kind).toBe('patch');
      await openIn(to, envelope, payload);
    }
  });

  it('is a patch for an edited line, and a bundle for rewritten bytes', async () => {
    put(near, 'big.bin', randomBytes(300_000));
    put(near, 'text.txt', Array.from({ length: 400 }, (_, i) => `line ${i}\n`).join(''));
    const base = await agree();
    put(near, 'text.txt', Array.from({ length: 400 }, (_, i) => `line ${i === 7 ? 'x' : i}\n`).join(''));
    const edited = await treeNow();
    expect((await seal(base, edited)).envelope.kind).toBe('patch');
    put(near, 'big.bin', randomBytes(300_000));
    const rewritten = await seal(edited, await treeNow());
    expect(rewritten.envelope.kind).toBe('bundle');
    // The old bytes do not travel: a binary patch would carry both.
    expect(rewritten.payload.length).toBeLessThan(310_000);
  });

  it('carries any change between two trees as a patch, renames and folders for files too', async () => {
    await fc.assert(
      fc.asyncProperty(triples, async (triple) => {
        const trees = await storeTrees(from, modelsOf(triple));
        const [base = '', ...results] = trees;
        const first = await seal(undefined, base);
        await openIn(to, first.envelope, first.payload);
        for (const result of results) {
          const { envelope, payload } = await seal(base, result);
          expect(envelope.kind).toBe('patch');
          await openIn(to, envelope, payload);
        }
      }),
      { numRuns: LONG ? 400 : 25 },
    );
  }, 300_000);

  it('tells a folder under another name by the names and the edits alone', async () => {
    for (let k = 0; k < 30; k += 1) {
      const lines = Array.from({ length: 60 }, () => randomBytes(20).toString('hex'));
      put(near, `old/${k}.txt`, `${lines.join('\n')}\n`);
    }
    const base = await agree();
    renameSync(join(near, 'old'), join(near, 'new'));
    for (let k = 0; k < 30; k += 1) appendFileSync(join(near, `new/${k}.txt`), `edit ${k}\n`);
    const { envelope, payload } = await seal(base, await treeNow());
    expect(payload.length).toBeLessThan(8_000);
    await openIn(to, envelope, payload);
  });

  it('can be opened with plain git when it is a bundle', async () => {
    const base = await treeNow();
    const { payload } = await seal(undefined, base);
    const bundle = join(ground.dir, 'saved.bundle');
    writeFileSync(bundle, payload);
    gitIn(ground.dir, 'init', '-q', 'plain');
    gitIn(join(ground.dir, 'plain'), 'fetch', '-q', bundle, 'refs/khlone/result:refs/heads/saved');
    gitIn(join(ground.dir, 'plain'), 'checkout', '-q', 'saved');
    expect(readFileSync(join(ground.dir, 'plain/kept.txt'), 'utf8')).toBe('kept\n');
  });

  it('names the same commit for a tree on both sides', async () => {
    const base = await agree();
    expect(await commitOf(from, base)).toBe(await commitOf(to, base));
  });

  it('leads from a state to the same state', async () => {
    const base = await agree();
    const { envelope, payload } = await seal(base, base);
    await openIn(to, envelope, payload);
    expect(payload.length).toBeLessThan(100);
  });

  it('is looked into before its sender ends it, and taken in only then', async () => {
    const base = await agree();
    put(near, 'edited.txt', 'one\n2\nthree\n');
    const result = await treeNow();
    const { envelope, payload } = await seal(base, result);
    const sender = Promise.withResolvers<void>();
    async function* endedLater(): AsyncGenerator<Uint8Array> {
      yield* bytesOf(payload);
      await sender.promise;
    }
    let isTaken = false;
    const taken = openEnvelope(to, envelope, endedLater(), file()).then(() => {
      isTaken = true;
    });
    await until('the state is there', () => holds(to, result));
    expect(isTaken).toBe(false);
    sender.resolve();
    await taken;
  });

  it('is refused when its sender breaks off after its last byte', async () => {
    const base = await agree();
    put(near, 'edited.txt', 'one\n2\nthree\n');
    const { envelope, payload } = await seal(base, await treeNow());
    async function* brokenOff(): AsyncGenerator<Uint8Array> {
      yield* bytesOf(payload);
      throw new Error('the line broke');
    }
    await expect(openEnvelope(to, envelope, brokenOff(), file())).rejects.toThrow('the line broke');
  });

  it('is refused when a byte of it is flipped, missing or too many', async () => {
    const base = await agree();
    makeDirty(near);
    const { envelope, payload } = await seal(base, await treeNow());
    const spoil = fc.oneof(
      fc.nat(payload.length - 1).map((at) => {
        const copy = Buffer.from(payload);
        copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
        return copy;
      }),
      fc.nat(payload.length - 1).map((at) => payload.subarray(0, at)),
      fc.uint8Array({ minLength: 1, maxLength: 50 }).map((more) => Buffer.concat([payload, more])),
    );
    await fc.assert(
      fc.asyncProperty(spoil, async (bytes) => {
        await expect(openIn(to, envelope, bytes)).rejects.toThrow('broken');
        expect(await holds(to, envelope.result)).toBe(false);
      }),
      { numRuns: 15 },
    );
  });

  it('is refused when it makes another state than it says', async () => {
    const base = await agree();
    makeDirty(near);
    const { envelope, payload } = await seal(base, await treeNow());
    await expect(openIn(to, { ...envelope, result: base }, payload)).rejects.toThrow('another state');
  });

  it('leaves no file of its own, however it ends', async () => {
    const base = await agree();
    const { envelope, payload } = await seal(base, base);
    const path = file();
    await openEnvelope(to, envelope, bytesOf(payload), path);
    await expect(openEnvelope(to, { ...envelope, bytes: 1 }, bytesOf(payload), path)).rejects.toThrow();
    expect(existsSync(path)).toBe(false);
  });
});

/** A tree object with any bytes for names, as git itself would not write it. */
const treeNamed = (name: string): string => {
  const blob = gitIn(near, 'hash-object', '-w', 'kept.txt').trim();
  const raw = join(ground.dir, 'raw-tree');
  writeFileSync(raw, Buffer.concat([Buffer.from(`100644 ${name}\0`), Buffer.from(blob, 'hex')]));
  return gitIn(near, 'hash-object', '-t', 'tree', '-w', '--literally', raw).trim();
};

const HOSTILE = ['.git', '.GIT', 'git~1', '.git.', '.git ', '..', '.', 'a/b', '.g\u200cit'];

describe('a hostile envelope', () => {
  it.each(HOSTILE)('with the name %j in a bundle is refused', async (name) => {
    const result = treeNamed(name);
    const { envelope, payload } = await seal(undefined, result);
    await expect(openIn(to, envelope, payload)).rejects.toThrow('broken');
  });

  it.each(['.git/config', '.GIT/config', '../outside', '/absolute', 'git~1/config', '.git/hooks/pre-commit'])(
    'with a patch to %j is refused',
    async (path) => {
      const base = await agree();
      const text = `diff --git a/${path} b/${path}\nnew file mode 100755\n--- /dev/null\n+++ b/${path}\n@@ -0,0 +1 @@\n+x\n`;
      const payload = deflateSync(text);
      await expect(openIn(to, sealed({ base, result: base }, payload), payload)).rejects.toThrow('broken');
    },
  );

  it('that inflates without end is refused', async () => {
    const base = await agree();
    const payload = deflateSync(Buffer.alloc(80 * 1024 * 1024));
    await expect(openIn(to, sealed({ base, result: base }, payload), payload)).rejects.toThrow('inflate');
  });

  it('with words of its own in a bundle header reaches no git', async () => {
    const payload = Buffer.from(`# v2 git bundle\n--upload-pack=x refs/khlone/result\n\nPACK`);
    const envelope = sealed({ kind: 'bundle', result: '0'.repeat(40) }, payload);
    await expect(openIn(to, envelope, payload)).rejects.toThrow('no bundle');
  });
});

it('does not write below the folder of the user’s own git', async () => {
  const objects = join(near, '.git/objects');
  const before = gitIn(near, 'count-objects', '-v');
  await agree();
  expect(gitIn(near, 'count-objects', '-v')).toBe(before);
  expect(existsSync(objects)).toBe(true);
  rmSync(join(ground.dir, 'far'), { recursive: true });
});
