import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { socketPathIn } from '../../src/protocol/resident.ts';
import { type Ran, type RunWish, until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf, write } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** Ctrl-C on a command whose host has not answered: the person knows what became of it. */

/** Nothing came for a while: a byte of just now would prove the line. */
const QUIET_MS = 1_100;
/** A hub that says nothing is waited for a second. */
const LEAVES_MS = 2_000;
/** With the hub, which gives a host that is known to be away a second. */
const UNDER_WAY_MS = 200;
/** Makes a call longer than what a link says of its own accord, so that the call is known from it. */
const LONG = `# ${'-'.repeat(4_000)}`;

describe.skipIf(sshdMissing)(`Ctrl-C while a line is silent${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let line: FaultLine;
  const cut = (isCut: boolean): void => {
    line.swallow = { up: isCut, down: isCut };
  };
  const lines = (file: string): string[] =>
    existsSync(join(far.zone, file)) ? readFileSync(join(far.zone, file), 'utf8').trim().split('\n') : [];
  const withHub = (): number => {
    // A socket is bound under another name first, which the kernel goes on telling.
    const folder = dirname(socketPathIn(far.home.root, 'hub'));
    const rows = readFileSync('/proc/net/unix', 'utf8').split('\n');
    return rows.filter((row) => row.includes(` ${folder}/`) && row.includes(' 03 ')).length;
  };
  const interrupted = async (
    args: readonly string[],
    wish?: RunWish,
    before = (): void => {},
  ): Promise<Ran> => {
    await far.ok(['reconnect']);
    await delay(QUIET_MS);
    cut(true);
    const held = line.held.up + (args.at(-1)?.length ?? 0);
    const others = withHub();
    const running = far.start(args, wish);
    await until('it is at its call', () => withHub() > others && line.held.up > held);
    const begun = performance.now();
    before();
    running.signal('SIGINT');
    const ran = await running.ended;
    expect(performance.now() - begun).toBeLessThan(LEAVES_MS);
    expect(ran.code).toBe(130);
    return ran;
  };

  beforeAll(async () => {
    far = await createFarWorld({ env: { KHLONE_WHO: '@sh' } });
    line = await faultLine(far.sshd);
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
  });
  afterEach(() => cut(false));
  afterAll(async () => {
    await far?.dispose();
    line?.close();
  });

  it.each([[[]], [['--quiet']], [['--json']], [['--await']]])(
    'on act %s says that the task is kept, and it runs once',
    async (flags) => {
      const file = `once${flags.join('')}`;
      const ran = await interrupted(['act', ...flags, `echo once >> ${file} ${LONG}`]);
      expect(ran.stderr).toMatch(/^⚠ task-\w{10} → @sh \(@main\) \[queued here: zone had not answered\]\n$/);
      expect(ran.stdout).toBe('');
      cut(false);
      expect(await far.khlone(['await', idOf(ran)])).toMatchObject({ code: 0 });
      await far.ok(['act', '--await', 'true']);
      expect(lines(file)).toEqual(['once']);
    },
  );

  it('on ask says that it is kept, and it is answered', async () => {
    const ran = await interrupted(['ask', `echo asked ${LONG}`]);
    expect(ran.stderr).toMatch(/^⚠ task-\w{10} → @sh \(@main\) \[queued here: zone had not answered\]\n$/);
    cut(false);
    expect(await far.khlone(['await', idOf(ran)])).toMatchObject({ code: 0, stdout: 'asked\n' });
  });

  it('says that nobody knows where the hub does not answer either, and what was sent runs once', async () => {
    const hub = far.hubPid() ?? 0;
    const freezing = interrupted(['act', `echo frozen >> frozen ${LONG}`], {}, () =>
      process.kill(hub, 'SIGSTOP'),
    );
    const ran = await freezing.finally(() => process.kill(hub, 'SIGCONT'));
    expect(ran.stderr).toBe('⚠ the hub did not say what became of it\n  ↳ khlone status shows it\n');
    cut(false);
    await far.ok(['reconnect']);
    await until('it ran', () => lines('frozen').length > 0);
    await far.ok(['act', '--await', 'true']);
    expect(lines('frozen')).toEqual(['frozen']);
  });

  it('on act says that none is kept where none was sent yet', async () => {
    const waiting = await interrupted(['act', `echo first >> order ${LONG}`]);
    await until(
      'it is known to be away',
      async () => (await far.ok(['status'])).stdout.includes('offline'),
      30_000,
    );
    const before = withHub();
    const running = far.start(['act', 'echo never >> order']);
    await until('the hub has it', () => withHub() > before);
    await delay(UNDER_WAY_MS);
    running.signal('SIGINT');
    expect(await running.ended).toMatchObject({ code: 130, stderr: '✗ interrupted: no task was queued\n' });
    cut(false);
    await far.ok(['await', idOf(waiting)]);
    expect(lines('order')).toEqual(['first']);
  }, 60_000);

  it('on cancel says that nothing was, and on sync what became of it', async () => {
    const slow = idOf(await far.ok(['act', 'sleep 60']));
    const cancel = await interrupted(['cancel', slow]);
    expect(cancel.stderr).toBe('✗ interrupted: nothing was cancelled\n');
    cut(false);
    await far.ok(['reconnect']);
    expect((await far.ok(['status'])).stdout).toContain('● mechanic.1');
    await far.ok(['cancel', slow]);
    write(far, 'mine', 'mine\n');
    const sync = await interrupted(['sync']);
    expect(sync.stderr).toMatch(/^(✗ interrupted: nothing was sent|⚠ the sync goes on: .*)\n$/);
  });
});
