import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Running, until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';

/** Watching a zone on a host whose link is cut and restored: a word about it, then exactly what came meanwhile. */

describe.skipIf(sshdMissing)(`a watched link that breaks${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  beforeAll(async () => {
    far = await createFarWorld();
    await far.ok(['act', '--who', 'mechanic@sh', '--await', 'true']);
  });
  afterAll(() => far?.dispose());

  const inZone = (file: string): string => join(far.zone, file);
  const linesOf = (file: string): number => readFileSync(inZone(file), 'utf8').split('\n').length - 1;
  const numbered = (text: string, name: string): number[] =>
    [...text.matchAll(new RegExp(`${name} (\\d+)$`, 'gm'))].map((found) => Number(found[1]));

  /** Prints a numbered line now and then, whether anybody looks or not, until it is told to end. */
  const ticking = (name: string): string =>
    `n=0; while [ ! -e over-${name} ]; do n=$((n+1)); echo "${name} $n"; echo >> count-${name}; sleep 0.03; done; echo "all $n of ${name}"`;

  /** Cuts the link while lines come, waits until the work went on in the dark, and brings the link back. */
  const cutAndRestore = async (running: Running, name: string, told: () => string): Promise<void> => {
    await until('some lines', () => numbered(told(), name).length > 3);
    await far.sshd.close();
    await until('the word', () => running.stderr().includes('reconnecting to zone'));
    const cut = linesOf(`count-${name}`);
    await until('work in the dark', () => linesOf(`count-${name}`) > cut + 5);
    await far.sshd.open();
    await until('what came meanwhile', () => numbered(told(), name).length > cut + 5, 30_000);
    writeFileSync(inZone(`over-${name}`), '');
    await until('the last line', () => new RegExp(`all \\d+ of ${name}$`, 'm').test(told()));
  };

  it.each([
    [['watch'], 'stdout'],
    [['log', '--follow', '--who', 'mechanic.1'], 'stdout'],
    [['await', '--watch'], 'stderr'],
  ] as const)(
    '%s says so, and goes on without a gap or a repeat',
    async (words, stream) => {
      const name = words[0];
      const act = async (): Promise<string> =>
        (await far.ok(['act', '--quiet', '--who', 'mechanic.1', ticking(name)])).stdout.trim();
      const task = name === 'await' ? [await act()] : [];
      const running = far.start([...words, ...task], { limitMs: 60_000 });
      if (name === 'watch') await until('the view', () => running.stderr().includes('watching '));
      if (name !== 'await') await act();
      await cutAndRestore(running, name, running[stream]);
      if (name !== 'await') running.signal('SIGINT');
      const { code, stderr } = await running.ended;
      expect(code).toBe(name === 'await' ? 0 : 130);
      const told = numbered(running[stream](), name);
      expect(told).toEqual(Array.from({ length: linesOf(`count-${name}`) }, (_, n) => n + 1));
      expect(stderr.match(/reconnecting to zone/g)).toHaveLength(1);
      expect(stderr.match(/reconnected to zone/g)).toHaveLength(1);
      rmSync(inZone(`count-${name}`));
    },
    90_000,
  );

  it('is one calm line among all zones, and joins when its host is back', async () => {
    const near = far.repository('near');
    await far.ok(['act', '--who', '@sh', '--await', 'true'], { cwd: near });
    await far.sshd.close();
    const running = far.start(['watch', '--all'], { limitMs: 60_000 });
    await until('the near zone and the calm line', () =>
      /watching local\/near[\s\S]*reconnecting|reconnecting[\s\S]*watching local\/near/.test(
        running.stderr(),
      ),
    );
    await far.ok(['act', '--who', 'mechanic.1', '--await', 'echo near'], { cwd: near });
    await until('the near line', () => /^\[near@feat\/auth mechanic\.1\] near$/m.test(running.stdout()));
    await far.sshd.open();
    await until('the far zone', () => running.stderr().includes('watching org/app@main'), 30_000);
    await far.ok(['act', '--who', 'mechanic.1', '--await', 'echo far']);
    await until('the far line', () => /^\[app@main mechanic\.1\] far$/m.test(running.stdout()));
    running.signal('SIGINT');
    expect((await running.ended).stderr.match(/reconnecting/g)).toHaveLength(1);
  }, 90_000);
});
