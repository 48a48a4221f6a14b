import { asKhloneError, ERRORS, type ErrorCode, KhloneError } from '../protocol/error.ts';
import { isTaskId, matchTaskPrefix } from '../protocol/id.ts';
import { oneLine } from '../protocol/sanitize.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import type { Queued, Refused } from './outbox.ts';
import { serverOf, serverOfZone } from './server-call.ts';

/** Where a task is that a person names by a prefix of its id: with a server, or still in the outbox. */

export type Located =
  | { type: 'server'; binding: Binding; id: string }
  | { type: 'here'; queued: Queued; id: string };

const stemOf = (prefix: string): string => (prefix.startsWith('task-') ? prefix : `task-${prefix}`);

/** A word that is no beginning of an id names nothing: an empty one, as of an unset variable, would name an only task. */
const requirePrefix = (given: string): void => {
  const prefix = given.trim().toLowerCase();
  if (/^(task-)?[0-9a-z]{1,10}$/.test(prefix)) return;
  const [code, what] =
    prefix === '' || prefix === 'task-'
      ? (['usage', 'which task?'] as const)
      : (['not-found', `no task ${oneLine(given, 60)}`] as const);
  throw new KhloneError(code, what, 'khlone list tasks shows the known ones');
};

const inOutbox = (app: App, prefix: string): Located | undefined => {
  const entries = app.outbox.list().filter((q) => q.entry.call.name === 'task.add');
  const byId = new Map(entries.map((q) => [(q.entry.call.params as { id: string }).id, q]));
  const stem = stemOf(prefix);
  if (![...byId.keys()].some((id) => id.startsWith(stem))) return undefined;
  const id = matchTaskPrefix(prefix, [...byId.keys()]);
  const queued = byId.get(id);
  return queued && { type: 'here', queued, id };
};

/** The error that a task ended with which its server refused when it was sent from here. */
export const refusalOf = ({ code, message, hint }: Refused): KhloneError =>
  new KhloneError(Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'task-failed', message, hint);

const refusedHere = (app: App, prefix: string): Refused | undefined => {
  const stem = stemOf(prefix);
  return app.outbox.refused().find(({ id }) => id.startsWith(stem));
};

type Asking = { app: App; caller: Caller; prefix: string; first: Binding | undefined };

/** Where the task is on one host, or why that host did not say. Throws `interrupted`. */
const askHost = async (
  { app, caller, prefix, first }: Asking,
  host: string,
  binding: Binding,
): Promise<Located | KhloneError> => {
  try {
    // From the worktree of a zone any command brings the environment that its tasks may wait for.
    const { peer } = await (first?.host === host
      ? serverOfZone(app, caller, first)
      : serverOf(app, caller, host));
    const { task } = await call(peer, 'task.get', { task: prefix, brief: true });
    return { type: 'server', binding: app.bindings.byZone(task.zone) ?? binding, id: task.id };
  } catch (thrown) {
    const error = asKhloneError(thrown);
    if (error.code === 'interrupted') throw error;
    return error;
  }
};

/** What nobody knowing it means: a host that was not asked may know it, so its silence counts for more than a no. */
const troubleOf = (
  asked: readonly (readonly [host: string, why: KhloneError])[],
  prefix: string,
): KhloneError => {
  const all = asked.map(([, why]) => why);
  // The prefix is that of several tasks.
  const ambiguous = all.find(({ code }) => code === 'usage');
  if (ambiguous) return ambiguous;
  const away = asked.filter(([, { code }]) => code === 'unreachable');
  const why = away[0]?.[1] ?? all.find(({ code }) => code !== 'not-found') ?? all[0];
  if (!why) return new KhloneError('not-found', `no task ${prefix}`, 'khlone status shows what there is');
  if (away.length === 0) return why;
  const what = `task ${oneLine(prefix, 60)} is not known here, and ${why.message}`;
  return new KhloneError('unreachable', what, why.hint, { away: away.map(([host]) => host) });
};

/** Whether this host could not be asked for a task that was looked for. */
export const wasAway = ({ data }: KhloneError, host: string): boolean =>
  Array.isArray(data?.away) && data.away.includes(host);

/** The one task of a host that its zones had when they were last seen, as far as it was shown; undefined: none, or several. */
export const knownTask = (app: App, host: string, prefix: string): string | undefined => {
  const views = app.bindings
    .all()
    .flatMap((one) => (one.host === host ? [app.known.get(one.zone)?.view] : []));
  const ids = views.flatMap((view) => [
    ...(view?.crew ?? []).flatMap(({ task }) => task ?? []),
    ...(view?.attention ?? []).map(({ id }) => id),
  ]);
  const found = new Set(ids.filter((id) => id.startsWith(stemOf(prefix))));
  return found.size === 1 ? [...found][0] : undefined;
};

/**
 * The id of a task of the caller's host, which could not be asked: a whole one needs nobody to find it, the rest of one
 * may be known. Throws why it was not found, with another next step if there is one.
 */
export const awayTask = (
  app: App,
  host: string | undefined,
  prefix: string,
  thrown: unknown,
  hint?: string,
): string => {
  const why = asKhloneError(thrown);
  if (host === undefined || !wasAway(why, host)) throw why;
  const known = isTaskId(prefix) ? prefix : knownTask(app, host, prefix);
  if (known) return known;
  throw new KhloneError(why.code, why.message, hint ?? why.hint);
};

/** The first host that knows it: that of the caller's zone, then the others that were used; those that are down together. */
export const locateTask = async (
  app: App,
  caller: Caller,
  prefix: string,
  first: Binding | undefined,
): Promise<Located> => {
  requirePrefix(prefix);
  const here = inOutbox(app, prefix);
  if (here) return here;
  const bindings = [...(first ? [first] : []), ...app.bindings.all()];
  const hosts = [...new Map(bindings.map((binding) => [binding.host, binding]))];
  const isDown = ([host]: (typeof hosts)[number]): boolean => app.link(host).state() === 'offline';
  const turns = [...hosts.filter((one) => !isDown(one)).map((one) => [one]), hosts.filter(isDown)];
  const asked: [string, KhloneError][] = [];
  for (const turn of turns) {
    const answers = await Promise.all(
      turn.map(async ([host, binding]) => {
        const said = await askHost({ app, caller, prefix, first }, host, binding);
        return [host, said] as const;
      }),
    );
    for (const [host, said] of answers) {
      if (!(said instanceof KhloneError)) return said;
      asked.push([host, said]);
    }
  }
  const refused = refusedHere(app, prefix);
  if (refused) throw refusalOf(refused);
  throw troubleOf(asked, prefix);
};
