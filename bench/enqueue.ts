import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { mintNonce, taskIdOf } from '../src/protocol/id.ts';
import { createPeer, type Peer } from '../src/protocol/peer.ts';
import { socketPathIn } from '../src/protocol/resident.ts';
import { makePlace } from './place.ts';
import type { Row } from './row.ts';

/** Durable enqueues over the local socket with 64 in flight, and what hub and server weigh afterwards. */

const TASKS = 20_000;
const IN_FLIGHT = 64;
const REACH_PER_SECOND = 10_000;
const REACH_MB = 80;

const rssMb = (pid: number): number => {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) / 1024;
};

const connectPeer = (home: string): Promise<Peer> =>
  new Promise((done, fail) => {
    const socket = connect(socketPathIn(home, 'server'));
    socket.on('error', fail);
    socket.on('connect', () => done(createPeer(socket, {})));
  });

const pidOf = (home: string, program: string): number | undefined => {
  const { execFileSync } = process.getBuiltinModule('node:child_process');
  const rows = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
  for (const row of rows) {
    const pid = Number(row.trim().split(' ')[0]);
    if (!row.includes(program) || !Number.isInteger(pid)) continue;
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
    if (environment.includes(`KHLONE_HOME=${home}`)) return pid;
  }
  return undefined;
};

export const benchEnqueue = async (): Promise<Row[]> => {
  const place = makePlace();
  try {
    place.khlone('act', '--who', '@sh', 'true');
    place.khlone('queue', 'pause');
    const idle = ['hub.mjs', 'khlone-server.mjs'].map((program) => {
      const pid = pidOf(place.home, program);
      const value = pid === undefined ? 0 : rssMb(pid);
      const name = program.startsWith('hub') ? 'hub idle, memory' : 'server idle, memory';
      return { name, value, unit: 'MB', anchor: '–', target: `≤ ${REACH_MB} MB`, ok: value <= REACH_MB };
    });
    const peer = await connectPeer(place.home);
    const { value } = await peer.call('zone.list', {});
    const [zone] = (
      value as { zones: { id: string; address: string; branch: string; mode: string; path: string }[] }
    ).zones;
    const policy = {
      heroRole: 'mechanic',
      brains: {},
      roles: { mechanic: '' },
      maxClones: 8,
      maxQueue: 1_000_000,
      sandbox: 'zone',
      trusted: true,
    };
    const spec = zone && {
      id: zone.id,
      address: zone.address,
      branch: zone.branch,
      mode: zone.mode,
      path: zone.path,
    };
    let sent = 0;
    const start = performance.now();
    const worker = async (): Promise<void> => {
      while (sent < TASKS) {
        sent += 1;
        await peer.call('task.add', {
          ...{ id: taskIdOf(mintNonce()), kind: 'act', prompt: 'true', zone: spec, policy },
          ...{ who: 'mechanic.1', session: 's', prioritize: false },
        });
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    const perSecond = (TASKS * 1000) / (performance.now() - start);
    peer.close();
    return [
      {
        ...{ name: 'durable enqueues, 64 in flight', value: perSecond, unit: '/s', anchor: '–' },
        ...{ target: `≥ ${REACH_PER_SECOND}/s`, ok: perSecond >= REACH_PER_SECOND },
      },
      ...idle,
    ];
  } finally {
    place.end();
  }
};
