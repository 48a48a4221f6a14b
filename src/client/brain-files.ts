import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutableSkill } from './sensitive.ts';

/**
 * Files of a repository by which it steers an AI CLI: hooks and tool servers in them are programs. An act uses them only
 * after a person agreed to their content; until then it goes on without them.
 */

const FILES = ['.claude/settings.json', '.claude/settings.local.json', '.mcp.json'] as const;
/** A longer file is agreed to by its beginning and its length. */
const MAX_BYTES = 1024 * 1024;

const fingerprint = async (path: string): Promise<string | undefined> => {
  const file = await open(path, 'r').catch(() => undefined);
  if (!file) return undefined;
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size, MAX_BYTES)));
    return createHash('sha256').update(`${size} `).update(buffer.subarray(0, bytesRead)).digest('hex');
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
};

/** Those that are there, each as a thing to agree to. */
export const brainFiles = async (root: string): Promise<ExecutableSkill[]> => {
  const found = await Promise.all(
    FILES.map(async (path) => ({ path, sha256: await fingerprint(join(root, path)) })),
  );
  return found.flatMap(({ path, sha256 }) =>
    sha256 === undefined
      ? []
      : [{ name: path, path, sha256, says: `lets claude run the hooks and tool servers of ${path}` }],
  );
};
