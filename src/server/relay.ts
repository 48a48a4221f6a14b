import type { Duplex } from 'node:stream';
import { magicLine } from '../protocol/magic.ts';

/** The far end of a link: a dumb pipe between sshd's channel and the server's socket, started per connection. */

/** Copies both ways until either side ends. The magic line tells the client where rc noise ends and frames begin. */
export const relay = (server: Duplex, nonce: string | undefined): Promise<void> =>
  new Promise((resolve) => {
    const end = (): void => {
      server.destroy();
      resolve();
    };
    process.stdout.on('error', end);
    process.stdin.on('error', end);
    server.on('error', end);
    server.on('close', end);
    process.stdin.on('end', () => server.end());
    process.stdout.write(magicLine(nonce));
    process.stdin.pipe(server, { end: false });
    server.pipe(process.stdout, { end: false });
  });
