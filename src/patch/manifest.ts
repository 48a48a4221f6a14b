import * as z from 'zod';
import { MAX_LINEAGE_CHARS } from './lineage.ts';

/**
 * What goes before a carried pack. The pack proves its own bytes (its trailer and every object's id); the manifest
 * names what must be found complete in it before anything is checked out.
 */

const objectId = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u);

/** Shallow commits of one carry: fits a call's frame, and a history of 50 commits never has as many. */
export const MAX_SHALLOW = 10_000;

const withoutControls = (url: string): boolean => [...url].every((c) => c >= ' ' && c !== '\u007f');

/** Transports that only reach a host: git's others (`ext::`, a path) run programs or mean nothing elsewhere. */
const URL_FORM = /^(?<scheme>https?|ssh|git):\/\/(?<authority>[^/?#]+)(?<path>\/[^?#]*)?/iu;
const SCP_FORM = /^(?:[\w.-]+@)?[\w.-]+:(?![:/]{2})[^\s:][^\s]*$/u;

/**
 * A remote's url without what could be a credential (password, user of https, query), or undefined where nothing
 * is left that another machine could use.
 */
export const publicUrl = (url: string): string | undefined => {
  if (url.length > 2000 || url.startsWith('-') || !withoutControls(url)) return undefined;
  const found = URL_FORM.exec(url)?.groups;
  if (!found) return SCP_FORM.test(url) && !url.startsWith('/') ? url : undefined;
  const { scheme = '', authority = '', path = '' } = found;
  const at = authority.lastIndexOf('@');
  const host = authority.slice(at + 1);
  if (host === '' || host.startsWith('-')) return undefined;
  const user = at < 0 ? '' : (authority.slice(0, at).split(':')[0] ?? '');
  const keeps = scheme.toLowerCase() === 'ssh' && user !== '' && !user.startsWith('-');
  return `${scheme.toLowerCase()}://${keeps ? `${user}@` : ''}${host}${path}`;
};

/** One line of a git configuration. */
const word = z.string().min(1).max(200).refine(withoutControls, 'control characters');

export const Manifest = z
  .strictObject({
    version: z.literal(1),
    format: z.enum(['sha1', 'sha256']),
    /** The commit that is checked out; absent while the branch is unborn. */
    head: objectId.optional(),
    /** The branch, without `refs/heads/`; absent where HEAD is detached. */
    branch: z.string().min(1).max(1000).optional(),
    /** The worktree's files, uncommitted work included. */
    tree: objectId,
    /** Commits whose parents are not carried. */
    shallow: z.array(objectId).max(MAX_SHALLOW),
    /** Names of the commits that `head` comes from, those that are not carried too. */
    lineage: z.base64().max(MAX_LINEAGE_CHARS).optional(),
    origin: z
      .string()
      .refine((url) => publicUrl(url) === url, 'carries credentials or an unknown transport')
      .optional(),
    /** Settings without which the same files would look modified over there. */
    autocrlf: z.enum(['true', 'false', 'input']).optional(),
    eol: z.enum(['lf', 'crlf', 'native']).optional(),
    /** Whom git takes for the author of commits, where the other machine names nobody. */
    author: z.strictObject({ name: word, email: word }).optional(),
  })
  .refine((one) => one.head !== undefined || one.branch !== undefined, 'neither a branch nor a commit')
  .refine(
    (one) =>
      [one.tree, ...(one.head ? [one.head] : []), ...one.shallow].every(
        (id) => id.length === (one.format === 'sha1' ? 40 : 64),
      ),
    'ids of another format',
  );
export type Manifest = z.infer<typeof Manifest>;
