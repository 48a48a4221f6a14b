import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { KhloneError } from './error.ts';

/** Where everything of one person's khlone lies on one machine. Two homes never meet: sockets and locks lie inside. */
export type Home = {
  root: string;
  run: string;
  hubLock: string;
  hubStartLock: string;
  serverLock: string;
  serverStartLock: string;
  outbox: string;
  zones: string;
  trust: string;
  config: string;
  cache: string;
  shell: string;
  serverDir: string;
  stateDb: string;
  zonesDir: string;
  tmuxSocket: string;
  tmuxConfig: string;
  bootLog: (program: 'hub' | 'server') => string;
};

/** The home that an environment names: KHLONE_HOME, else ~/.khlone. Throws `config` when it is not absolute. */
export const homeOf = (env: Readonly<Record<string, string | undefined>>): Home => {
  const named = env.KHLONE_HOME || join(env.HOME || homedir(), '.khlone');
  if (!isAbsolute(named)) {
    throw new KhloneError('config', 'KHLONE_HOME is not an absolute path', 'give the whole path');
  }
  // One spelling for one home: "/a" and "/a/" must lead to the same sockets.
  const root = resolve(named);
  const run = join(root, 'run');
  const serverDir = join(root, 'server');
  return {
    root,
    run,
    hubLock: join(run, 'hub.lock'),
    hubStartLock: join(run, 'hub-start.lock'),
    serverLock: join(run, 'server.lock'),
    serverStartLock: join(run, 'server-start.lock'),
    outbox: join(root, 'outbox'),
    zones: join(root, 'zones.json'),
    trust: join(root, 'trust.json'),
    config: join(root, 'config.yml'),
    cache: join(root, 'cache'),
    shell: join(root, 'shell'),
    serverDir,
    stateDb: join(serverDir, 'state.db'),
    zonesDir: join(serverDir, 'zones'),
    tmuxSocket: join(serverDir, 'tmux.sock'),
    tmuxConfig: join(serverDir, 'tmux.conf'),
    bootLog: (program) => join(run, `${program}-boot.log`),
  };
};
