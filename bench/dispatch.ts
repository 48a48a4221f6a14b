import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import { makePlace, type Place, timeCommand } from './place.ts';
import { against, median, type Row } from './row.ts';

/** act and status by the node command against `node -e 0`, and over the hub's raw socket against a warm ssh master. */

const ROUNDS = 30;
const BIN = resolve(import.meta.dirname, '../bin/khlone');

/** One command in the shell's own form, prompt to prompt, in ms. */
export const rawMs = (place: Place, words: string[]): Promise<number> =>
  new Promise((done, fail) => {
    const start = performance.now();
    const socket = connect(`${place.home}/run/hub.sock`);
    const nonce = randomBytes(12).toString('hex');
    socket.on('error', fail);
    socket.on('data', () => {});
    socket.on('close', () => done(performance.now() - start));
    const fields = ['khlone/1', nonce, place.repository, '80', '0', String(words.length), ...words];
    socket.write(`${fields.join('\0')}\0`);
  });

type Times = { wallMs: number; cpuMs: number }[];
const cpu = (times: Times): number => times.reduce((sum, t) => sum + t.cpuMs, 0) / times.length;

export const benchDispatch = async (sshControlMs: number | undefined): Promise<Row[]> => {
  const place = makePlace();
  try {
    place.khlone('act', '--who', '@sh', 'true');
    place.khlone('queue', 'pause');
    const options = { cwd: place.repository, env: place.env };
    const times: Record<'act' | 'status' | 'bare', Times> = { act: [], status: [], bare: [] };
    const raw: Record<'act' | 'status', number[]> = { act: [], status: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      times.bare.push(await timeCommand([process.execPath, '-e', '0'], options));
      times.act.push(
        await timeCommand([process.execPath, BIN, 'act', '--who', 'mechanic.1', 'true'], options),
      );
      times.status.push(await timeCommand([process.execPath, BIN, 'status'], options));
      raw.act.push(await rawMs(place, ['act', '--who', 'mechanic.1', 'true']));
      raw.status.push(await rawMs(place, ['status']));
    }
    const bare = { name: 'node -e 0', value: cpu(times.bare) };
    const rows = [
      against('act by the node command, CPU', cpu(times.act), 'ms', bare, 2),
      against('status by the node command, CPU', cpu(times.status), 'ms', bare, 2),
    ];
    const anchor = sshControlMs === undefined ? undefined : { name: 'ssh -S ctl true', value: sshControlMs };
    const node = { name: 'node -e 0', value: median(times.bare.map((t) => t.wallMs)) };
    if (anchor) rows.push(against('act over the raw hub socket', median(raw.act), 'ms', anchor, 0.15));
    rows.push(against('act over the raw hub socket, again', median(raw.act), 'ms', node, 0.05));
    rows.push(against('status over the raw hub socket', median(raw.status), 'ms', node, 0.2));
    return rows;
  } finally {
    place.end();
  }
};
