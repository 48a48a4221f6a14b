import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/**
 * A line with every fault, at random moments, while acts and events are on their way. KHLONE_LONG=1 runs it at its
 * nightly size, KHLONE_SEED repeats one schedule.
 */

const LONG = process.env.KHLONE_LONG === '1';
const SEED = Number(process.env.KHLONE_SEED ?? Date.now() % 1_000_000);
const DROPS = LONG ? 1_000 : 200;
const TICKS = LONG ? 2_000 : 650;
const OUTAGES_MS = LONG ? [1_000, 3_000, 6_000, 12_000, 25_000, 60_000] : [3_500, 7_000];
const SLEEP_MS = LONG ? 60_000 : 5_000;
const LIMIT_MS = LONG ? 1_200_000 : 240_000;
/** The bytes of a handshake, a login and the first calls, each way: what a cut may fall into. */
const FIRST_BYTES = 8_000;

/** mulberry32: small, and the same everywhere. */
const randomOf = (seed: number) => {
  let a = seed;
  return (below: number): number => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
};

const kill = (pid: number | undefined): void => {
  try {
    if (pid) process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
};

describe.skipIf(sshdMissing)(`a line with faults${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let line: FaultLine;
  const note = (word: string, file: string, who: string) => ['act', '--who', who, `echo ${word} >> ${file}`];
  const lines = (file: string): string[] => {
    const path = join(far.zone, file);
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  };
  const outbox = (): string[] => readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));

  beforeAll(async () => {
    far = await createFarWorld();
    line = await faultLine(far.sshd);
    for (const who of ['@sh', 'mechanic@sh++', 'mechanic@sh++'])
      await far.ok(['act', '--who', who, '--await', 'true']);
  }, 60_000);
  afterEach(() => line?.heal());
  afterAll(async () => {
    await far?.dispose();
    line?.close();
  });

  /** What happened, by name; those that end connections count as drops. */
  type Tally = { drops: Record<string, number>; others: Record<string, number> };
  const sum = (counts: Record<string, number>): number =>
    Object.values(counts).reduce((all, n) => all + n, 0);
  const add = (counts: Record<string, number>, name: string, n = 1): void => {
    counts[name] = (counts[name] ?? 0) + n;
  };

  /** Faults in their proportion: each as often as it stands here. */
  const faultsOf = (random: (below: number) => number, { drops, others }: Tally): (() => Promise<void>)[] => {
    const reset = async () => add(drops, 'reset', line.reset());
    const cut = async () => {
      const done = line.cutNext(random(FIRST_BYTES), random(2) === 0 ? 'up' : 'down');
      await reset();
      // One that carries fewer bytes is left to the next fault.
      if (await Promise.race([done.then(() => true), delay(1_500).then(() => false)])) add(drops, 'cut');
    };
    const session = async () => {
      for (const pid of far.sshd.sessions()) {
        kill(pid);
        add(drops, 'session');
      }
    };
    const swallow = async () => {
      add(others, 'silence');
      const which = random(3);
      if (which !== 0) line.swallow.up = true;
      if (which !== 1) line.swallow.down = true;
      await delay(random(3_000));
      line.swallow = { up: false, down: false };
    };
    const slow = async () => {
      line.delayMs = random(60);
      line.twice = random(2) === 0;
    };
    const killOne = (name: string, pid: () => number | undefined) => async () => {
      add(others, name);
      kill(pid());
    };
    const kills = [
      killOne('hub', far.hubPid),
      killOne('server', far.farServerPid),
      killOne('tmux', far.farTmuxPid),
    ];
    const few = [swallow, slow, ...kills];
    return [...Array(14).fill(reset), ...Array(5).fill(cut), ...Array(4).fill(session), ...few];
  };

  it(
    `loses, doubles and reorders nothing over ${DROPS} drops (seed ${SEED})`,
    async () => {
      const random = randomOf(SEED);
      const tally: Tally = { drops: {}, others: {} };
      let over = false;
      const goesOn = (): boolean => !over && sum(tally.drops) < DROPS;
      const faults = faultsOf(random, tally);
      const breaker = async () => {
        for (; goesOn(); await delay(random(250))) await faults[random(faults.length)]?.();
        line.heal();
      };
      const sent = { one: [] as string[], two: [] as string[] };
      const act = async (file: 'one' | 'two', who: string): Promise<void> => {
        for (let n = 1; goesOn(); n += 1) {
          await far.ok(note(String(n), file, who));
          sent[file].push(String(n));
        }
      };
      const ticking = far.start(
        [
          ...['act', '--who', 'mechanic.3', '--await', '--watch'],
          `i=0; while [ $i -lt ${TICKS} ]; do i=$((i+1)); echo tick $i; sleep 0.1; done`,
        ],
        { limitMs: LIMIT_MS },
      );
      const breaking = breaker();
      try {
        await Promise.all([act('one', 'mechanic.1'), act('two', 'mechanic.2'), breaking]);
      } finally {
        over = true;
        await breaking;
      }
      await until('everything was sent', () => outbox().length === 0, 60_000);
      for (const file of ['one', 'two'] as const)
        await until(`all of ${file} ran`, () => lines(file).length >= sent[file].length, 60_000);
      const ticked = await ticking.ended;
      console.log(`seed ${SEED}: ${JSON.stringify(tally)}, ${sent.one.length + sent.two.length} acts`);
      expect(lines('one')).toEqual(sent.one);
      expect(lines('two')).toEqual(sent.two);
      const ticks = Array.from({ length: TICKS }, (_, n) => `tick ${n + 1}`);
      expect(ticked.stdout.match(/tick \d+/g)).toEqual(ticks);
      expect(ticked.stderr.match(/tick \d+/g)).toEqual(ticks);
    },
    LIMIT_MS,
  );

  /** What this machine needs now for a login and one line: what follows is held against it. */
  const reconnectMs = async (): Promise<number> => {
    line.reset();
    return (await far.ok(['reconnect'])).ms;
  };
  const zones = (): string => join(far.home.root, 'shell/zones');
  /** The fourth field of the line that prompts read. */
  const shown = (): string =>
    readFileSync(join(zones(), readdirSync(zones())[0] ?? ''), 'utf8').split('\t')[3] ?? '';

  for (const awayMs of OUTAGES_MS) {
    it(
      `serves within a second when a path of ${awayMs / 1000} s of silence is back`,
      async () => {
        const usualMs = await reconnectMs();
        line.swallow = { up: true, down: true };
        const begun = performance.now();
        const queued = await far.ok(note(`away-${awayMs}`, 'away', 'mechanic.1'));
        expect(queued.stderr).toContain('queued here');
        expect(shown()).toMatch(/connecting|offline/);
        await delay(Math.max(0, awayMs - (performance.now() - begun)));
        line.heal();
        const healed = performance.now();
        await until('it was sent', () => outbox().length === 0, 20_000);
        const tookMs = performance.now() - healed;
        console.log(
          `${awayMs} ms away: sent after ${Math.round(tookMs)} ms (a login: ${Math.round(usualMs)} ms)`,
        );
        expect(tookMs).toBeLessThan(1_000 + usualMs);
        await until('it ran', () => lines('away').includes(`away-${awayMs}`));
        expect(lines('away').filter((word) => word === `away-${awayMs}`)).toHaveLength(1);
      },
      30_000 + awayMs,
    );
  }

  it('shows a silent host as one that nobody is sure of, and is calm again without a new connection', async () => {
    await far.ok(['reconnect']);
    const before = line.connections();
    line.swallow.down = true;
    const status = await far.ok(['status']);
    expect(status.stdout).toMatch(/zone @main \(ssh zone, silent for \ds\)\n/);
    expect(status.stdout).toContain('? mechanic.1');
    await until('prompts show it', () => shown() === 'connecting', 2_000);
    line.heal();
    await until('it is calm', () => shown() === 'online', 10_000);
    expect((await far.ok(['status'])).stdout).toMatch(/^zone @main \(ssh zone, connected\)\n/);
    expect(line.connections() - before).toBeLessThanOrEqual(1);
  });

  it(
    'serves at once after the hub was stopped and the line broke meanwhile',
    async () => {
      const usualMs = await reconnectMs();
      const hub = far.hubPid() ?? 0;
      process.kill(hub, 'SIGSTOP');
      line.swallow = { up: true, down: true };
      await delay(SLEEP_MS);
      line.swallow = { up: false, down: false };
      line.reset();
      process.kill(hub, 'SIGCONT');
      const woke = performance.now();
      const ran = await far.ok(['act', '--who', 'mechanic.1', '--await', 'echo awake']);
      expect(ran.stdout).toBe('awake\n');
      console.log(
        `awake after ${Math.round(performance.now() - woke)} ms (a login: ${Math.round(usualMs)} ms)`,
      );
      expect(performance.now() - woke).toBeLessThan(1_000 + 3 * usualMs);
    },
    30_000 + SLEEP_MS,
  );
});
