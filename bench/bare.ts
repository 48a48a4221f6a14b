import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/**
 * What an act cannot do without, and nothing else: a hub that passes a request on, and a server that answers when one
 * row is committed and synced. `node bench/bare.ts hub|server FOLDER`.
 */

const REQUEST_BYTES = 1_700;
const ANSWER_BYTES = 430;

const serveBare = (folder: string): void => {
  const db = new DatabaseSync(join(folder, 'state.db'));
  db.exec('PRAGMA journal_mode = WAL');
  db.exec('PRAGMA synchronous = FULL');
  db.exec('CREATE TABLE rows (n INTEGER PRIMARY KEY, text TEXT)');
  const insert = db.prepare('INSERT INTO rows (text) VALUES (?)');
  const answer = (socket: Socket): void => {
    insert.run('x'.repeat(REQUEST_BYTES));
    socket.write(Buffer.alloc(ANSWER_BYTES, 'a'));
  };
  createServer((socket) => void socket.on('data', () => answer(socket))).listen(join(folder, 'server.sock'));
};

const relayBare = (folder: string): void => {
  const server = connect(join(folder, 'server.sock'));
  const waiting: Socket[] = [];
  server.on('data', () => waiting.shift()?.end('e a receipt\nx 0\n'));
  const ask = (socket: Socket): void => {
    waiting.push(socket);
    server.write(Buffer.alloc(REQUEST_BYTES, 'r'));
  };
  createServer((socket) => void socket.once('data', () => ask(socket))).listen(join(folder, 'hub.sock'));
};

const [role, folder = ''] = process.argv.slice(2);
if (role === 'server') serveBare(folder);
else relayBare(folder);
