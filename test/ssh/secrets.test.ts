import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kill9 } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** Secrets of khlone.yml reach the clone over the link, and nothing else. */

const SECRET = 'hush-4f1c9a7be2';
const TURNED = [...SECRET].reverse().join('');

const argvs = (): string =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      } catch {
        return '';
      }
    })
    .join('\n');

const filesWith = (word: string, folders: string[]): string =>
  execFileSync('sh', ['-c', 'grep -rlaF "$@" || true', 'sh', '-e', word, '--', ...folders]).toString();

describe.skipIf(sshdMissing)(`secrets${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let folders: string[];
  const turn = ['act', '--who', '@sh', '--await', 'echo "$TOKEN" | rev'];
  beforeAll(async () => {
    far = await createFarWorld({ yml: 'secrets: { TOKEN: env:MY_TOKEN }\n' });
    folders = [far.base, dirname(far.sshd.remoteHome)];
  });
  afterAll(() => far?.dispose());

  it('reach the environment of a clone, no file and no command line', async () => {
    const env = { MY_TOKEN: SECRET };
    const seen: string[] = [];
    const running = far.start(turn, { env });
    void running.ended.finally(() => seen.push('end'));
    do {
      if (argvs().includes(SECRET)) seen.push('argv');
      await new Promise((resolve) => setImmediate(resolve));
    } while (!seen.includes('end'));
    expect((await running.ended).stdout).toBe(`${TURNED}\n`);
    expect(seen).toEqual(['end']);
    expect(filesWith(SECRET, folders)).toBe('');
    expect(filesWith(TURNED, folders)).not.toBe('');
  });

  it('stay with the hub while the server on the host is killed', async () => {
    kill9([far.farServerPid() ?? 0]);
    expect((await far.ok(turn)).stdout).toBe(`${TURNED}\n`);
  });

  it('are waited for after hub and server died, until a command from the worktree brings them', async () => {
    // Long enough that both die before the next task begins.
    await far.ok(['act', '--who', '@sh', 'sleep 3']);
    const act = await far.ok(turn.filter((word) => word !== '--await'));
    await far.kill(far.hubPid());
    kill9([far.farServerPid() ?? 0]);
    const held = async () => (await far.ok(['status'], { env: { MY_TOKEN: undefined } })).stdout;
    await expect.poll(held, { timeout: 20_000 }).toContain('needs its environment');
    const elsewhere = await far.ok(['status', '--all'], { cwd: far.base, env: { MY_TOKEN: SECRET } });
    expect(elsewhere.stdout).toContain('needs its environment');
    await far.ok(['status'], { env: { MY_TOKEN: SECRET } });
    expect((await far.ok(['await', idOf(act)])).stdout).toBe(`${TURNED}\n`);
    expect(filesWith(SECRET, folders)).toBe('');
  });

  it('that are not set here end the act, and nothing is queued', async () => {
    await far.kill(far.hubPid());
    const act = await far.khlone(turn, { env: { MY_TOKEN: undefined } });
    expect(act.code).toBe(2);
    expect(act.stderr).toContain('MY_TOKEN is not set here');
    expect(readdirSync(far.home.outbox)).toEqual([]);
    expect(readFileSync(join(far.repo, 'khlone.yml'), 'utf8')).not.toContain(SECRET);
  });
});
