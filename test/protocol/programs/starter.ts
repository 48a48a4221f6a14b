import { once } from 'node:events';
import { join } from 'node:path';
import { asKhloneError } from '../../../src/protocol/error.ts';
import { connectOrStart, socketPathIn } from '../../../src/protocol/resident.ts';

/** A client for the tests: finds or starts the resident and prints the pid it answers, or how it failed. */

const [home = '', ...residentArgs] = process.argv.slice(2);
try {
  const socket = await connectOrStart({
    socketPath: socketPathIn(home, 'x'),
    startLockPath: join(home, 'run', 'x-start.lock'),
    spawn: {
      argv: [
        process.execPath,
        '--expose-gc',
        join(import.meta.dirname, 'resident.ts'),
        home,
        ...residentArgs,
      ],
      env: process.env,
      cwd: '/',
    },
    bootLogPath: join(home, 'run', 'x-boot.log'),
    deadlineMs: 20_000,
  });
  const [pid] = await once(socket.setEncoding('utf8'), 'data');
  process.stdout.write(String(pid));
  socket.destroy();
} catch (thrown) {
  const { code, message } = asKhloneError(thrown);
  process.stdout.write(`${code}: ${message}\n`);
}
