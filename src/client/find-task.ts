import { asKhloneError, ERRORS, type ErrorCode, KhloneError } from '../protocol/error.ts';
import { matchTaskPrefix } from '../protocol/id.ts';
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

/** The first host that knows it: that of the caller's zone, then the others that were used. */
export const locateTask = async (
  app: App,
  caller: Caller,
  prefix: string,
  first: Binding | undefined,
): Promise<Located> => {
  const here = inOutbox(app, prefix);
  if (here) return here;
  const bindings = [...(first ? [first] : []), ...app.bindings.all()];
  const hosts = new Map(bindings.map((binding) => [binding.host, binding]));
  let trouble: KhloneError | undefined;
  for (const [host, binding] of hosts) {
    try {
      // From the worktree of a zone any command brings the environment that its tasks may wait for.
      const { peer } = await (first?.host === host
        ? serverOfZone(app, caller, first)
        : serverOf(app, caller, host));
      const { task } = await call(peer, 'task.get', { task: prefix });
      return { type: 'server', binding: app.bindings.byZone(task.zone) ?? binding, id: task.id };
    } catch (thrown) {
      const error = asKhloneError(thrown);
      if (error.code === 'interrupted') throw error;
      if (error.code !== 'not-found' || !trouble)
        trouble = error.message.includes('several') ? error : (trouble ?? error);
    }
  }
  const refused = refusedHere(app, prefix);
  if (refused) throw refusalOf(refused);
  throw trouble ?? new KhloneError('not-found', `no task ${prefix}`, 'khlone status shows what there is');
};
