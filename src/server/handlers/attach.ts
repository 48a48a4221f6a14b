import type { Handlers } from '../../protocol/peer.ts';
import type { Viewers } from '../attach/viewers.ts';
import { route } from './route.ts';

/** Calls of terminals that look into a zone. */

export const attachRoutes = (viewers: Viewers) => [
  route('attach.prepare', ({ params }) => viewers.prepare(params)),
  route('attach.proxy', ({ params }) => viewers.proxy(params)),
  route('attach.open', async ({ params, body, signal }) => {
    const { typed, drawn } = await viewers.open(params, body, signal);
    return { answer: { typed }, body: drawn, klass: 'interactive' as const };
  }),
  route('attach.resize', ({ params }) => {
    viewers.resize(params.viewer, params);
    return {};
  }),
  route('attach.end', ({ params }) => viewers.end(params.viewer)),
  route('attach.detach', async ({ params }) => ({ ended: await viewers.detach(params.zone) })),
];

/** Calls after which something that viewers look at may be gone. */
const REMOVING: ReadonlySet<string> = new Set(['zone.del', 'crew.del']);

type Routes = [name: string, handle: Handlers[string]][];

/** The same routes; before the answer of one that removed something leaves, whoever looked at that has left. */
export const withFarewell = (routes: Routes, viewers: Viewers): Routes =>
  routes.map(([name, handle]) => {
    if (!REMOVING.has(name)) return [name, handle];
    const both: Handlers[string] = async (call) => {
      const answer = await handle(call);
      await viewers.bury();
      return answer;
    };
    return [name, both];
  });
