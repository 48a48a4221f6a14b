import { appendFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { holdLifeLock, listenByRename, signalReady, socketPathIn } from '../../../src/protocol/resident.ts';

/** A resident for the tests: it says its pid to whoever connects, and writes it into `starts` once it holds the lock. */

const [home = '', bootMs = '0', mode = ''] = process.argv.slice(2);

if (mode === 'broken') {
  process.stderr.write('first line\nthe store cannot be opened\n');
  process.exit(1);
}
await holdLifeLock(join(home, 'run', 'x.lock'));
appendFileSync(join(home, 'starts'), `${process.pid}\n`);
if (mode === 'collect') for (let round = 0; round < 5; round++) globalThis.gc?.();
await delay(Number(bootMs));
const server = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.end(`${process.pid}\n`);
});
const unlink = await listenByRename(server, socketPathIn(home, 'x'), () => process.exit(0));
signalReady();
process.on('SIGTERM', () => {
  unlink();
  // The lock outlives the socket for a while, as in a resident that finishes its work.
  setTimeout(() => process.exit(0), 200);
});
