import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createPeer, type Peer } from '../src/protocol/peer.ts';
import { socketPathIn } from '../src/protocol/resident.ts';
import { layRoad, NEAR, openRoad, type Road, roadMissing } from '../test/ssh/far-road.ts';
import { createFarWorld, type FarWorld, zoneYml } from '../test/ssh/far-world.ts';
import { faultLine } from '../test/ssh/fault-line.ts';
import { LONG, median, type Row } from './row.ts';

/**
 * A path that goes and comes back: packets vanish in a network namespace, between a real kernel's TCP on both sides. A
 * request waits meanwhile, and is made again whenever it fails.
 */

const OUTAGES_MS = [1_000, 3_000, 6_000, 12_000, 25_000];
const SERVICE_MS = 1_000;
const NOTICED_MS = 2_500;
const POLL_MS = 10;
const CALL_MS = 60_000;
const UPLOAD_BYTES_PER_SECOND = 150_000;
const UPLOAD_SECONDS = LONG ? 60 : 8;
const WARM_MS = 500;

/** What prompts read of the zone's link: online, connecting (nobody is sure), offline. */
const shown = (far: FarWorld): string => {
  const dir = join(far.home.root, 'shell', 'zones');
  const name = readdirSync(dir).find((one) => !one.endsWith('.tmp'));
  return name === undefined ? '' : (readFileSync(join(dir, name), 'utf8').split('\t')[3] ?? '');
};

const hubOf = (far: FarWorld): Peer => createPeer(connect(socketPathIn(far.home.root, 'hub')), {});

const zoneOf = async (far: FarWorld): Promise<string> =>
  /"(z-[0-9a-z]{16})"/.exec((await far.ok(['status', '--json'])).stdout)?.[1] ?? '';

type Ground = { far: FarWorld; road: Road; hub: Peer; zone: string };

/** A small call that the hub passes on to the server of the host. */
const ask = ({ far, hub, zone }: Ground): Promise<unknown> =>
  hub.call(
    'attach',
    { host: far.sshd.host, env: far.env, name: 'attach.detach', params: { zone } },
    { timeoutMs: CALL_MS },
  );

const askUntilServed = async (ground: Ground): Promise<number> => {
  for (const end = performance.now() + CALL_MS; ; ) {
    const served = await ask(ground).then(
      () => performance.now(),
      () => 0,
    );
    if (served > 0) return served;
    if (performance.now() > end) throw new Error('the host is never served again');
    await delay(POLL_MS);
  }
};

const outage = async (ground: Ground, awayMs: number): Promise<{ backMs: number; noticedMs: number }> => {
  await ask(ground);
  await delay(WARM_MS);
  ground.road.swallow();
  const gone = performance.now();
  const serving = askUntilServed(ground);
  let noticed = 0;
  while (performance.now() - gone < awayMs) {
    if (noticed === 0 && shown(ground.far) !== 'online') noticed = performance.now();
    await delay(POLL_MS);
  }
  ground.road.restore();
  const back = performance.now();
  return { backMs: (await serving) - back, noticedMs: noticed - gone };
};

const benchOutages = async (): Promise<Row[]> => {
  if (roadMissing) {
    console.error(`outages were skipped: ${roadMissing}`);
    return [];
  }
  const laid = layRoad();
  const far = await createFarWorld({ sshd: { config: [`ListenAddress ${NEAR}`] } });
  const road = await openRoad(far.sshd, laid);
  try {
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    const ground = { far, road, hub: hubOf(far), zone: await zoneOf(far) };
    const trips: number[] = [];
    for (let n = 0; n < 20; n += 1) {
      const begun = performance.now();
      await ask(ground);
      trips.push(performance.now() - begun);
    }
    const reach = SERVICE_MS + 8 * median(trips);
    const rows: Row[] = [];
    const noticed: number[] = [];
    for (const awayMs of OUTAGES_MS) {
      const { backMs, noticedMs } = await outage(ground, awayMs);
      if (noticedMs > 0) noticed.push(noticedMs);
      rows.push({
        ...{ name: `service after the path was away for ${awayMs / 1000} s`, value: backMs, unit: 'ms' },
        ...{ anchor: `a call ${median(trips).toFixed(1)} ms`, target: '≤ 1 s + 8 RTT', ok: backMs <= reach },
      });
    }
    const worst = Math.max(...noticed);
    const name = 'a dead path noticed with a request in flight, worst';
    const row = { name, value: worst, unit: 'ms', anchor: `${noticed.length} outages` };
    return [...rows, { ...row, target: `≤ ${NOTICED_MS} ms`, ok: worst <= NOTICED_MS }];
  } finally {
    await far.dispose();
    road.close();
  }
};

/** A full slow line is no dead one: no doubt in prompts, and no second connection. */
const benchAlarms = async (): Promise<Row> => {
  const far = await createFarWorld();
  const line = await faultLine(far.sshd);
  try {
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    const cwd = far.repository('slow', {
      ...{ branch: 'main', origin: 'git@nowhere.invalid:org/slow.git' },
      files: { 'khlone.yml': zoneYml(far.sshd.host) },
    });
    writeFileSync(join(cwd, 'noise'), randomBytes(UPLOAD_SECONDS * UPLOAD_BYTES_PER_SECOND));
    await far.ok(['trust', '--yes'], { cwd });
    line.rate.up = UPLOAD_BYTES_PER_SECOND;
    const before = line.connections();
    const limitMs = 3_000 * UPLOAD_SECONDS;
    const act = far.start(['act', '--who', '@sh', '--await', 'true'], { cwd, limitMs });
    let isOver = false;
    void act.ended.finally(() => {
      isOver = true;
    });
    let alarms = 0;
    for (let last = 'online'; !isOver; await delay(POLL_MS)) {
      const now = shown(far);
      if (now !== 'online' && last === 'online') alarms += 1;
      last = now;
    }
    if ((await act.ended).code !== 0) throw new Error(`the upload failed: ${(await act.ended).stderr}`);
    const value = alarms + line.connections() - before;
    const name = `false alarms in an upload of ${UPLOAD_SECONDS} s at 150 KB/s`;
    return { name, value, unit: '', anchor: '–', target: '0', ok: value === 0 };
  } finally {
    await far.dispose();
    line.close();
  }
};

export const benchRecover = async (): Promise<Row[]> => [...(await benchOutages()), await benchAlarms()];
