import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../client/patches/random-edits.ts';
import type { Running } from '../fixtures/khlone.ts';
import { kill9, processesWith } from '../fixtures/server.ts';
import type { FarWorld } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** What befalls a command in its middle: the line, the hub, the server of the host, or the command itself. */

/** Long enough for any moment of an exchange on a busy machine. */
const MOMENT_MS = 700;
const SILENCE_MS = 3_500;
/** The bytes of a login and a small exchange. */
const CUT_BYTES = 24_000;

/** The hubs of a laptop's home. */
export const hubsOf = (home: string | undefined): number[] =>
  processesWith(`KHLONE_HOME=${home}\0`).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('hub.mjs\0');
    } catch {
      return false;
    }
  });

export type Troubles = {
  line: FaultLine;
  /** Lets something happen to the command; answers what. Everything is whole again afterwards. */
  befall(running: Running, home: string | undefined): Promise<string>;
};

export const troublesOn = async (far: FarWorld, random: Random): Promise<Troubles> => {
  const line = await faultLine(far.sshd);
  const soon = () => delay(random.below(MOMENT_MS));
  const server = (): number[] => [far.farServerPid()].filter((pid) => pid !== undefined);

  const befall: Troubles['befall'] = async (running, home) => {
    const what = random.of(['reset', 'cut', 'silence', 'hub', 'server', 'command', 'both'] as const);
    if (what === 'cut') {
      const way = random.of(['up', 'down'] as const);
      const done = line.cutNext(random.below(CUT_BYTES), way);
      line.reset();
      await Promise.race([done, running.ended]);
      line.heal();
      // A connection that carried fewer bytes than that would be cut later.
      line.reset();
      return `the line was cut (${way})`;
    }
    await soon();
    if (what === 'reset') line.reset();
    else if (what === 'hub') kill9(hubsOf(home));
    else if (what === 'server') kill9(server());
    else if (what === 'command') running.signal('SIGKILL');
    else if (what === 'both') kill9([...hubsOf(home), ...server()]);
    else {
      line.swallow = { up: random.chance(0.6), down: random.chance(0.6) };
      await delay(random.below(SILENCE_MS));
      line.heal();
    }
    return what;
  };
  return { line, befall };
};
