import { connect } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { homeOf } from '../protocol/home.ts';
import { askedNonce } from '../protocol/magic.ts';
import { socketPathIn } from '../protocol/resident.ts';
import { relay } from './relay.ts';

/**
 * The relay as a program of its own, for the start that somebody waits for at each connection: where the server
 * answers, nothing else is loaded. Where it does not, the whole server's relay starts it.
 */

const CONNECT_DEADLINE_MS = 2_000;

const words = process.argv.slice(2);
const socket = connect(socketPathIn(homeOf(process.env).root, 'server'));

const byTheServer = (): void => {
  clearTimeout(timer);
  socket.destroy();
  const bundle = join(__dirname, 'khlone-server.mjs');
  process.argv[1] = bundle;
  import(pathToFileURL(bundle).href).catch((thrown: unknown) => {
    process.stderr.write(`✗ ${thrown instanceof Error ? thrown.message : thrown}\n`);
    process.exit(1);
  });
};

const timer = setTimeout(byTheServer, CONNECT_DEADLINE_MS);
socket.once('error', byTheServer);
socket.once('connect', () => {
  clearTimeout(timer);
  socket.off('error', byTheServer);
  void relay(socket, askedNonce(words, process.env.SSH_ORIGINAL_COMMAND)).then(() => process.exit(0));
});
