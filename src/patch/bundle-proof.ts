import { randomBytes } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import { quotedFolder, type Repository, SAFE_NAMES } from './shadow.ts';
import { STRICT } from './strictness.ts';

/**
 * A bundle of commits that a zone sent, looked through before the person's repository takes it in. `git fetch` checks
 * the objects of a bundle only since git 2.46, whatever fetch.fsckObjects says, so older ones would take in a tree that
 * holds a `.git`. The same bytes are indexed strictly in a place of their own, which goes afterwards.
 */

const GIT_DEADLINE_MS = 15 * 60_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Each commit that both sides have is a line with its subject. */
const MAX_HEADER_BYTES = 1024 * 1024;

/** What `git bundle create - HEAD` writes: no filter, which would excuse missing objects, and no other ref. */
const HEADER =
  /^# v(?:2|3) git bundle\n(?:@object-format=sha(?:1|256)\n)?(?:-[0-9a-f]{40,64}(?: [^\n]*)?\n)*[0-9a-f]{40,64} HEAD\n\n$/u;

const headerLength = async (file: string): Promise<number> => {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0);
    const text = buffer.subarray(0, bytesRead).toString('latin1');
    const length = text.indexOf('\n\n') + 2;
    if (HEADER.test(text.slice(0, length))) return length;
    throw new KhloneError('conflict', 'the commits of the zone came in an unknown form');
  } finally {
    await handle.close();
  }
};

async function* packIn(file: string, start: number): AsyncGenerator<Uint8Array> {
  const handle = await open(file, 'r');
  yield* handle.createReadStream({ start });
}

/** Throws `conflict` for what no repository should hold: a hostile name, a broken object, one that is missing. */
export const proveBundle = async (repository: Repository, file: string): Promise<void> => {
  const start = await headerLength(file);
  const quarantine = join(repository.gitDir, 'khlone', `proof-${randomBytes(6).toString('hex')}`);
  await mkdir(join(quarantine, 'pack'), { recursive: true, mode: 0o700 });
  try {
    const said = await git([...SAFE_NAMES, 'index-pack', '--stdin', '--fix-thin', STRICT], {
      ...{ cwd: repository.worktree, input: packIn(file, start) },
      ...{ deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES },
      env: {
        GIT_OBJECT_DIRECTORY: quarantine,
        GIT_ALTERNATE_OBJECT_DIRECTORIES: quotedFolder(join(repository.commonDir, 'objects')),
      },
    });
    if (said.code === 0) return;
    const { code, message, hint } = gitFailed('git refused the commits of the zone', said.stderr);
    throw new KhloneError(code === 'disk-low' ? code : 'conflict', message, hint);
  } finally {
    await rm(quarantine, { recursive: true, force: true });
  }
};
