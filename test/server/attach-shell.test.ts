import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  call,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';
import { endOf, newViewer, openScreen, openViewer, terminalOf, viewersIn } from './attach-ground.ts';

/** A shell of the person's own in a zone's worktree: it is there until the person ends it, whatever else dies. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.dispose());

const SHELL = { kind: 'shell' } as const;

beforeEach(async () => {
  peer = await server.peer();
  zone = makeZone(server);
  const environment = { ...server.env, GREETING: "it's $HOME", PS1: 'no', KHLONE_SESSION: 'no', TMUX: 'no' };
  await call(peer, 'zone.environment', { zone: zone.id, environment, refresh: false });
  const { task } = await addTask(peer, zone, 'true');
  await untilTask(peer, zone, task.id);
});
afterEach(async () => {
  for (const viewer of viewersIn(server)) await endOf(peer, viewer);
});

/** Opens a shell, and says so when it reads what is typed. */
const openShell = async (wish: { viewer?: string } = {}) => {
  const shell = await openViewer(peer, zone, SHELL, wish);
  shell.type('echo rea""dy\r');
  await shell.sees('ready');
  shell.clear();
  return shell;
};

describe('a shell', () => {
  test('is interactive, in the worktree, with the environment of the zone and nothing of khlone', async () => {
    const shell = await openShell();
    shell.type('echo "[$GREETING] [$-] [$TERM]"; pwd; env | grep -c -e ^KHLONE_ -e ^TMUX; tty\r');
    await shell.sees("[it's $HOME]");
    await shell.sees(/\[[a-zA-Z]*i[a-zA-Z]*\] \[(tmux|screen)/);
    await shell.sees(realpathSync(zone.path));
    await shell.sees(/0\r\n\S*\/dev\/pts/);
    await shell.resize(77, 22);
    shell.type('while stty size; do read -t 0.1 x; done\r');
    await shell.sees('22 77');
  });

  test('gets every key of a terminal that comes back, however early it is typed', async () => {
    const shell = await openShell();
    shell.cancel();
    await shell.over;
    // A terminal that is still as it was made would take Ctrl-\ for an order to itself.
    const early = '\x1cecho bac""k\r';
    const back = await openViewer(peer, zone, SHELL, { viewer: shell.viewer, early });
    await back.sees('back');
  });

  test('tells who comes back how much was typed, and types nothing more of the terminal before', async () => {
    const shell = await openViewer(peer, zone, SHELL);
    expect(shell.typed.bytes).toBe(0);
    shell.type('echo rea""dy\r');
    await shell.sees('ready');
    const back = await openViewer(peer, zone, SHELL, { viewer: shell.viewer });
    expect(back.typed).toEqual({ of: shell.typed.of, bytes: 'echo rea""dy\r'.length });
    shell.type('echo la""te\r');
    back.type('echo no""w\r');
    await back.sees('now');
    expect(back.drawn()).not.toContain('late');
    const third = await openViewer(peer, zone, SHELL, { viewer: shell.viewer });
    expect(third.typed.bytes).toBe(back.typed.bytes + 'echo no""w\r'.length);
  });

  test('tells its exit code, and Ctrl-D is its own', async () => {
    const shell = await openShell();
    shell.type('exit 7\r');
    expect(await shell.over).toBeUndefined();
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'exited', exitCode: 7 });
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'exited', exitCode: 7 });
    const other = await openShell({ viewer: shell.viewer });
    other.type('sh -c \'echo begin""ning; exec cat\'\r');
    await other.sees('beginning');
    other.type('word\r');
    await other.sees(/word\r\nword/);
    other.type('\x04');
    other.type('echo went"" on\r');
    await other.sees('went on');
    other.type('\x04');
    expect(await other.over).toBeUndefined();
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'exited', exitCode: 0 });
  });

  test('lives through a lost link, and is found again by the same terminal', async () => {
    const shell = await openShell();
    shell.type('kept=word; echo s""et\r');
    await shell.sees('set');
    shell.cancel();
    const again = await openViewer(peer, zone, SHELL, { viewer: shell.viewer });
    again.type('echo "kept: $kept"\r');
    await again.sees('kept: word');
    again.type('\x02d');
    expect(await again.over).toBeUndefined();
    expect(viewersIn(server)).toEqual([shell.viewer]);
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'left' });
    expect(viewersIn(server)).toEqual([]);
  });

  test('is left by C-b d also where it comes at once with what was typed before', async () => {
    const shell = await openShell();
    shell.type('echo ty""ped\r\x02d');
    expect(await shell.over).toBeUndefined();
    expect(viewersIn(server)).toEqual([shell.viewer]);
    const again = await openViewer(peer, zone, SHELL, { viewer: shell.viewer });
    await again.sees('typed');
  });

  test('lives through the death of the server, which must not type Ctrl-D into it', async () => {
    const remote = await openShell();
    remote.type('kept=mine; echo s""et\r');
    await remote.sees('set');
    const viewer = newViewer();
    const local = await openScreen(peer, server, { zone, sight: SHELL, viewer });
    local.keys('kept=here', 'Enter');
    await until('a prompt', () => local.text().includes('kept=here'));
    await server.kill9();
    expect(await remote.over).toMatchObject({ code: 'unreachable' });
    peer = await server.peer();
    const again = await openViewer(peer, zone, SHELL, { viewer: remote.viewer });
    again.type('echo "it is $kept"\r');
    await again.sees('it is mine');
    local.keys('echo $kept,', 'Enter');
    await until('its answer', () => local.text().includes('here,'));
    local.keys('exit 3', 'Enter');
    await until('the end of the screen', local.isOver);
    expect(await endOf(peer, viewer)).toEqual({ parting: 'exited', exitCode: 3 });
    await endOf(peer, remote.viewer);
  });

  test('takes its jobs along when its terminal is closed over a program in the foreground', async () => {
    const shell = await openShell();
    const pids = join(server.work, `${shell.viewer}.pids`);
    shell.type(`sleep 601 & echo $! >${pids}; sh -c 'echo $$ >>${pids}; echo look""ing; exec sleep 602'\r`);
    await shell.sees('looking');
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'left' });
    const living = (): string[] =>
      readFileSync(pids, 'utf8')
        .trim()
        .split('\n')
        .filter((pid) => existsSync(`/proc/${pid}`));
    await until('the end of both', () => living().length === 0);
  });

  test('that ended while no server was there tells its exit code to the next one', async () => {
    const viewer = newViewer();
    const local = await openScreen(peer, server, { zone, sight: SHELL, viewer });
    await until('a prompt', () => /[$#%>]/.test(local.text()));
    await server.kill9();
    local.keys('exit 9', 'Enter');
    await until('the end of the screen', local.isOver);
    peer = await server.peer();
    expect(await endOf(peer, viewer)).toEqual({ parting: 'exited', exitCode: 9 });
  });

  test('stays when the server is stopped with --keep, and goes with it otherwise', async () => {
    const viewer = newViewer();
    const local = await openScreen(peer, server, { zone, sight: SHELL, viewer });
    await until('a prompt', () => /[$#%>]/.test(local.text()));
    await server.stop(true);
    local.keys('echo st""ill', 'Enter');
    await until('its answer', () => local.text().includes('still'));
    peer = await server.peer();
    expect(viewersIn(server)).toEqual([viewer]);
    await server.stop(false);
    await until('the end of the screen', local.isOver);
    peer = await server.peer();
    expect(await endOf(peer, viewer)).toEqual({ parting: 'left' });
  });

  test('is refused beyond eight in a zone, and where its worktree is not there', async () => {
    const prepare = (viewer: string, sight: unknown = SHELL) =>
      call(peer, 'attach.prepare', { zone: zone.id, viewer, sight, terminal: terminalOf({}) });
    const viewers = Array.from({ length: 8 }, newViewer);
    for (const viewer of viewers) await prepare(viewer);
    await expect(prepare(newViewer())).rejects.toMatchObject({ code: 'rate-limited' });
    await prepare(viewers[0] ?? '');
    await prepare(newViewer(), { kind: 'view', clone: 'mechanic.1' });
    await call(peer, 'attach.detach', { zone: zone.id });
    const nowhere = makeZone(server, { path: join(server.work, 'gone', 'away') });
    const { task } = await addTask(peer, nowhere, 'true');
    const wish = { zone: nowhere.id, viewer: newViewer(), sight: SHELL, terminal: terminalOf({}) };
    renameSync(nowhere.path, `${nowhere.path}.moved`);
    await expect(call(peer, 'attach.prepare', wish)).rejects.toMatchObject({ code: 'conflict' });
    await call(peer, 'task.cancel', { task: task.id });
  });
});

describe('a host without script(1)', () => {
  test('says so, and still answers the words of a client', async () => {
    const bin = join(server.work, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'script'), '#!/bin/sh\necho BusyBox\n');
    chmodSync(join(bin, 'script'), 0o755);
    const poor = await startServer({ env: { PATH: `${bin}:${process.env.PATH}` } });
    try {
      const there = await poor.peer();
      const place = makeZone(poor);
      const { task } = await addTask(there, place, 'true');
      expect(task.state).toBeDefined();
      await expect(openViewer(there, place, SHELL)).rejects.toMatchObject({ code: 'no-pty' });
      const wish = { zone: place.id, viewer: newViewer(), sight: SHELL, terminal: terminalOf({}) };
      const { argv } = await call<{ argv: string[] }>(there, 'attach.prepare', wish);
      expect(argv[0]).toBe('tmux');
    } finally {
      await poor.dispose();
    }
  });
});
