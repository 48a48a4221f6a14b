import { createHash, randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { lstat, readText, realpath, rename, writeDurable } from './near-disk.ts';

/**
 * Which worktree this is, among all that share a zone. The id lies in the worktree's git directory and is bound to the
 * machine and the path: a copy finds an id that is not its own, and takes a new one.
 */

const Replica = z.strictObject({
  version: z.literal(1),
  id: z.string().regex(/^r-[0-9a-f]{24}$/),
  place: z.string().regex(/^[0-9a-f]{64}$/),
});

const MAX_BYTES = 4_096;

/** What tells machines apart; a container often has only its name. */
const machineOf = async (): Promise<string> => {
  const id = await readText('/etc/machine-id').catch(() => '');
  return `${id.trim()} ${hostname()}`;
};

const placeOf = async (gitDir: string): Promise<string> => {
  const [machine, path] = await Promise.all([machineOf(), realpath(gitDir)]);
  return createHash('sha256').update(`${machine}\0${path}`).digest('hex');
};

const read = async (file: string): Promise<z.infer<typeof Replica> | undefined> => {
  try {
    const facts = await lstat(file);
    if (!facts.isFile() || facts.size > MAX_BYTES) return undefined;
    return Replica.parse(JSON.parse(await readText(file)));
  } catch {
    return undefined;
  }
};

/** Writes a new id durably. */
export const renewReplica = async (gitDir: string): Promise<string> => {
  const path = join(gitDir, 'khlone', 'replica.json');
  const id = `r-${randomBytes(12).toString('hex')}`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temp = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const text = `${JSON.stringify({ version: 1, id, place: await placeOf(gitDir) })}\n`;
  await writeDurable(temp, text, { mode: 0o600, isNew: true });
  await rename(temp, path);
  return id;
};

/** The id of the worktree whose git directory this is, made when there is none or it belongs to another place. */
export const replicaOf = async (gitDir: string): Promise<string> => {
  const known = await read(join(gitDir, 'khlone', 'replica.json'));
  return known?.place === (await placeOf(gitDir)) ? known.id : renewReplica(gitDir);
};
