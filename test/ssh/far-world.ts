import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createWorld, type Ran, type RunWish, until, type World } from '../fixtures/khlone.ts';
import { kill9, processesWith } from '../fixtures/server.ts';
import { createSshd, type Sshd, type SshdOptions } from '../fixtures/sshd.ts';

/** The real command line on one side of a real sshd, and a host of its own on the other. */

export type FarWorld = World & {
  sshd: Sshd;
  /** KHLONE_HOME of the account on the host. */
  farHome: string;
  /** Living processes of the account on the host. */
  farProcesses(): number[];
  farServerPid(): number | undefined;
  /** The tmux server of the account, which holds its runs. */
  farTmuxPid(): number | undefined;
  /** The zone's worktree on the host. */
  zone: string;
  /** Runs words, and shows what was said where they end otherwise than expected. */
  ok(args: readonly string[], wish?: RunWish): Promise<Ran>;
};

export type FarWish = {
  env?: Record<string, string>;
  files?: Record<string, string>;
  sshd?: SshdOptions;
  /** Lines of khlone.yml after zone. */
  yml?: string;
  trust?: boolean;
};

const wordsOf = (pid: number): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  } catch {
    return [];
  }
};

const nameOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return '';
  }
};

export const zoneYml = (host: string, more = ''): string => `zone: { mode: ssh, host: ${host} }\n${more}`;

/** A repository on main whose khlone.yml names the host, agreed to. Nothing of khlone is on the host yet. */
export const createFarWorld = async (wish: FarWish = {}): Promise<FarWorld> => {
  const sshd = await createSshd(wish.sshd);
  const root = dirname(sshd.clientHome);
  const world = await createWorld({
    repository: {
      branch: 'main',
      origin: 'git@nowhere.invalid:org/app.git',
      files: {
        'khlone.yml': zoneYml(sshd.host, wish.yml),
        ...wish.files,
      },
    },
    ...(wish.env && { env: wish.env }),
  });
  world.env.PATH = `${join(sshd.clientHome, 'bin')}:${world.env.PATH}`;
  const farProcesses = (): number[] => processesWith(`HOME=${sshd.remoteHome}`);
  const ok: FarWorld['ok'] = async (args, given) => {
    const ran = await world.khlone(args, given);
    if (ran.code !== 0)
      throw new Error(`khlone ${args.join(' ')}: ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
    return ran;
  };
  const far: FarWorld = {
    ...world,
    sshd,
    zone: join(sshd.remoteHome, 'zones/org/app/main'),
    farHome: join(sshd.remoteHome, '.khlone'),
    farProcesses,
    farServerPid: () => farProcesses().find((pid) => wordsOf(pid)[2] === 'serve'),
    farTmuxPid: () => farProcesses().find((pid) => nameOf(pid) === 'tmux: server'),
    ok,
    dispose: async () => {
      await world.dispose();
      await until('the end of everything on the host', () => {
        const living = processesWith(root).filter((pid) => pid !== sshd.pid);
        kill9(living);
        return living.length === 0;
      });
      await sshd.stop();
    },
  };
  if (wish.trust !== false) await ok(['trust', '--yes']);
  return far;
};

export const write = (far: FarWorld, name: string, text: string): void =>
  writeFileSync(join(far.repo, name), text);

/** The task that a receipt names. */
export const idOf = ({ stderr }: Ran): string => /task-[0-9a-z]{10}/.exec(stderr)?.[0] ?? '';
