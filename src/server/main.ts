import { realpathSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { asKhloneError } from '../protocol/error.ts';
import { homeOf } from '../protocol/home.ts';
import { askedNonce } from '../protocol/magic.ts';
import { connectOrStart, socketPathIn } from '../protocol/resident.ts';
import { relay } from './relay.ts';

/**
 * One file, four programs: `serve` the resident, `relay` the far end of a link, `brain-sh` the built-in brain, and
 * `view ZONE CLONE`, what a clone does, in words, for the terminal that it runs in.
 */

declare const __KHLONE_VERSION__: string;
declare const __KHLONE_BUILD__: string;
/** relay-start.ts as one small program; absent where only this file was bundled. */
declare const __KHLONE_RELAY__: string | undefined;

const START_DEADLINE_MS = 15_000;
const bundle = realpathSync(process.argv[1] ?? import.meta.filename);

/** Lines for whoever looks for a fault: they go to the boot log, dated, without anything of a task. */
const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);

/**
 * Keeps the space for young objects from growing with what passes through: it never shrinks again, and made 40 MB of
 * the resident's 190 while a clone printed 30 MB to five viewers. 20,000 enqueues took as long with it as without.
 */
const stayLean = (): void => {
  setFlagsFromString('--semi-space-growth-factor=1');
  // Old objects are looked through sooner: 10 to 20 MB less at the peak of a flood, in the same time.
  setFlagsFromString('--optimize-for-size');
};

// Loaded by the program that needs it: a relay is started for each connection, and somebody waits for its start.
const serveHere = async (): Promise<void> => {
  const { enterScope } = await import('./logout.ts');
  await enterScope([process.execPath, ...process.execArgv, bundle, 'serve'], process.env);
  // The boot log lies on the disk that may be full: a line of it that is lost must not end the server.
  process.stderr.on('error', () => {});
  stayLean();
  const { serve } = await import('./serve.ts');
  const idleMs = Number(process.env.KHLONE_CLONE_IDLE_MS);
  await serve({
    ...{ home: homeOf(process.env), build: __KHLONE_BUILD__, entry: bundle, log },
    ...(idleMs > 0 && { idleMs }),
  });
};

const relayHere = async (): Promise<void> => {
  const home = homeOf(process.env);
  const server = await connectOrStart({
    socketPath: socketPathIn(home.root, 'server'),
    startLockPath: home.serverStartLock,
    spawn: { argv: [process.execPath, bundle, 'serve'], env: process.env, cwd: '/' },
    bootLogPath: home.bootLog('server'),
    deadlineMs: START_DEADLINE_MS,
  });
  await relay(server, askedNonce(process.argv.slice(2), process.env.SSH_ORIGINAL_COMMAND));
};

/** Puts the relay beside this file as a program of its own: loading all of this would be most of its start. */
const unpackHere = async (): Promise<void> => {
  if (typeof __KHLONE_RELAY__ === 'undefined') return;
  const path = join(dirname(bundle), 'relay.cjs');
  writeFileSync(`${path}.new`, __KHLONE_RELAY__, { mode: 0o600 });
  renameSync(`${path}.new`, path);
};

const programs: Record<string, () => Promise<void>> = {
  serve: serveHere,
  relay: relayHere,
  unpack: unpackHere,
  'brain-sh': async () => {
    const { runShProgram } = await import('../brains/sh-program.ts');
    await runShProgram(process.stdin, 1);
  },
  view: async () => {
    const { showClone } = await import('./attach/view.ts');
    const [zone = '', clone = ''] = process.argv.slice(3);
    await showClone(socketPathIn(homeOf(process.env).root, 'server'), zone, clone);
  },
  version: async () => void process.stdout.write(`${__KHLONE_VERSION__}\n`),
};

const program = programs[process.argv[2] ?? ''];
if (!program) {
  process.stderr.write('✗ khlone-server takes: serve, relay, version\n  ↳ khlone starts it by itself\n');
  process.exit(2);
}
program().then(
  () => process.exit(process.exitCode ?? 0),
  (thrown) => {
    const error = asKhloneError(thrown);
    process.stderr.write(`✗ ${error.message}\n${error.hint ? `  ↳ ${error.hint}\n` : ''}`);
    process.exit(error.exit);
  },
);
