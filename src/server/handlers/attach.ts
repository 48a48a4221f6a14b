import type { Viewers } from '../attach/viewers.ts';
import { route } from './route.ts';

/** Calls of terminals that look into a zone. */

async function* nothing(): AsyncGenerator<Uint8Array> {}

export const attachRoutes = (viewers: Viewers) => [
  route('attach.prepare', ({ params }) => viewers.prepare(params)),
  route('attach.open', async ({ params, body, signal }) => ({
    answer: {},
    body: await viewers.open(params, body ?? nothing(), signal),
    klass: 'interactive' as const,
  })),
  route('attach.resize', ({ params }) => {
    viewers.resize(params.viewer, params);
    return {};
  }),
  route('attach.end', ({ params }) => viewers.end(params.viewer)),
  route('attach.detach', async ({ params }) => ({ ended: await viewers.detach(params.zone) })),
];
