import { createHolder } from '../../../src/server/tmux/panes.ts';

// A server in small, for tests that kill it: starts the run given as JSON, says so, and stays.
const { where, spec } = JSON.parse(process.argv[2] ?? '{}');
const holder = createHolder(where);
await holder.start(spec);
process.stdout.write('started\n');
setInterval(() => {}, 60_000);
