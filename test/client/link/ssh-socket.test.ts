import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { inOneWrite } from '../../../src/client/link/ssh-socket.ts';

/** How many writes reach the line. */

const openLine = () => {
  const writes: string[] = [];
  const sock = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      writes.push(chunk.toString());
      done();
    },
    writev: (pieces, done) => {
      writes.push(Buffer.concat(pieces.map(({ chunk }) => chunk)).toString());
      done();
    },
  });
  return { sock: inOneWrite(sock), writes };
};

test('the pieces of a turn go out together, and what comes later goes after them', async () => {
  const { sock, writes } = openLine();
  for (const piece of ['length', ' body', ' tag']) sock.write(piece);
  await turn();
  sock.write('next');
  await turn();
  expect(writes).toEqual(['length body tag', 'next']);
});

test('what was written is sent before the end, and a line that was cut meanwhile harms nobody', async () => {
  const { sock, writes } = openLine();
  sock.write('last');
  sock.end(' words');
  await turn();
  expect(writes.join('')).toBe('last words');
  const cut = openLine();
  cut.sock.write('lost');
  cut.sock.destroy();
  await turn();
  expect(cut.writes).toEqual([]);
});
