import type { Duplex } from 'node:stream';
import type { Home } from '../../protocol/home.ts';
import { connectOrStart, socketPathIn } from '../../protocol/resident.ts';

/** The local link: this machine's khlone-server on its socket, started when it is not there. */

const START_DEADLINE_MS = 15_000;

export const dialLocal =
  (spec: { home: Home; serverBundle: string }) => async (): Promise<{ duplex: Duplex; close(): void }> => {
    const { home } = spec;
    const socket = await connectOrStart({
      socketPath: socketPathIn(home.root, 'server'),
      startLockPath: home.serverStartLock,
      spawn: {
        argv: [process.execPath, spec.serverBundle, 'serve'],
        // The server lives longer than any shell: what a clone gets comes from the shell that dispatched, not from here.
        env: { ...process.env, KHLONE_HOME: home.root },
        cwd: '/',
      },
      bootLogPath: home.bootLog('server'),
      deadlineMs: START_DEADLINE_MS,
    });
    return { duplex: socket, close: () => socket.destroy() };
  };
