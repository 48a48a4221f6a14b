import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { exchangeMs, type Floor, openFloor } from './floor.ts';
import { makePlace, type Place, timeCommand } from './place.ts';
import { against, median, type Row } from './row.ts';
import { openSshControl, type SshControl } from './ssh-control.ts';

/**
 * act and status by the node command against `node -e 0`, and over the hub's raw socket against a warm ssh master. The
 * floor stands beside it: what two bare Node programs take that pass a request on and commit one row.
 */

const ROUNDS = 30;
const BIN = resolve(import.meta.dirname, '../bin/khlone');

/** One command in the shell's own form, prompt to prompt, in ms. */
const rawMs = (place: Place, words: string[]): Promise<number> => {
  const nonce = randomBytes(12).toString('hex');
  const fields = ['khlone/1', nonce, place.repository, '80', '0', String(words.length), ...words];
  return exchangeMs(`${place.home}/run/hub.sock`, `${fields.join('\0')}\0`);
};

type Times = { wallMs: number; cpuMs: number }[];
const cpu = (times: Times): number => times.reduce((sum, t) => sum + t.cpuMs, 0) / times.length;

const ACT = ['act', '--who', 'mechanic.1', 'true'];

type Figures = {
  times: Record<'act' | 'status' | 'bare', Times>;
  raw: Record<'act' | 'status' | 'floor' | 'control', number[]>;
};

/** All in turns, so that what else the machine does falls on all of them. */
const measure = async (place: Place, floor: Floor, control: SshControl): Promise<Figures> => {
  const options = { cwd: place.repository, env: place.env };
  const node = (...words: string[]) => timeCommand([process.execPath, ...words], options);
  const figures: Figures = {
    times: { act: [], status: [], bare: [] },
    raw: { act: [], status: [], floor: [], control: [] },
  };
  const { times, raw } = figures;
  for (let round = 0; round < ROUNDS; round += 1) {
    times.bare.push(await node('-e', '0'));
    raw.floor.push(await floor.ms());
    times.act.push(await node(BIN, ...ACT));
    raw.control.push(await control.ms());
    times.status.push(await node(BIN, 'status'));
    raw.act.push(await rawMs(place, ACT));
    raw.status.push(await rawMs(place, ['status']));
  }
  return figures;
};

const rowsOf = ({ times, raw }: Figures): Row[] => {
  const bareCpu = { name: 'node -e 0', value: cpu(times.bare) };
  const bare = { name: 'node -e 0', value: median(times.bare.map((t) => t.wallMs)) };
  const control = { name: 'ssh -S ctl true', value: median(raw.control) };
  const floor = against('  its floor: the same hops and sync, bare', median(raw.floor), 'ms', control, 0);
  const { ok: _ok, ...floorRow } = floor;
  return [
    against('act by the node command, CPU', cpu(times.act), 'ms', bareCpu, 2),
    against('status by the node command, CPU', cpu(times.status), 'ms', bareCpu, 2),
    against('act over the raw hub socket', median(raw.act), 'ms', control, 0.15),
    { ...floorRow, target: '–' },
    against('act over the raw hub socket, again', median(raw.act), 'ms', bare, 0.05),
    against('status over the raw hub socket', median(raw.status), 'ms', bare, 0.2),
  ];
};

export const benchDispatch = async (): Promise<Row[]> => {
  const place = makePlace();
  const control = await openSshControl();
  const floor = await openFloor();
  try {
    place.khlone('act', '--who', '@sh', 'true');
    place.khlone('queue', 'pause');
    return rowsOf(await measure(place, floor, control));
  } finally {
    floor.end();
    place.end();
    await control.end();
  }
};
