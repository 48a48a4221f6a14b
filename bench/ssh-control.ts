import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { clientEnv, createSshd } from '../test/fixtures/sshd.ts';

/** The anchor of a dispatch: `ssh -S ctl host true`, by a master that is connected already. */
export type SshControl = { ms(): Promise<number>; end(): Promise<void> };

export const openSshControl = async (): Promise<SshControl> => {
  const sshd = await createSshd();
  const env = clientEnv(sshd) as NodeJS.ProcessEnv;
  const control = ['-S', join(sshd.clientHome, 'ctl')];
  spawnSync('ssh', ['-fNM', ...control, sshd.host], { env, stdio: 'ignore' });
  return {
    ms: () =>
      new Promise((done, fail) => {
        const start = performance.now();
        const child = spawn('ssh', [...control, sshd.host, 'exec true'], { env, stdio: 'ignore' });
        child.on('error', fail);
        child.on('close', () => done(performance.now() - start));
      }),
    end: async () => {
      spawnSync('ssh', [...control, '-O', 'exit', sshd.host], { env, stdio: 'ignore' });
      await sshd.stop();
    },
  };
};
