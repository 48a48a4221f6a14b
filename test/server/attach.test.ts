import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  bringEnvironment,
  call,
  kill9,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';
import {
  askTmux,
  endOf,
  newViewer,
  openScreen,
  openViewer,
  paneOf,
  terminalOf,
  viewersIn,
} from './attach-ground.ts';

/** Looking at a clone: what it does, live, in the viewer's own size, and nothing left when nobody looks. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.dispose());

const HERO = { kind: 'view', clone: 'mechanic.1' } as const;

beforeEach(async () => {
  peer = await server.peer();
  zone = makeZone(server);
  await bringEnvironment(peer, server, zone);
});

afterEach(async () => {
  for (const viewer of viewersIn(server)) await endOf(peer, viewer);
});

const done = async (script: string): Promise<void> => {
  const { task } = await addTask(peer, zone, script);
  await untilTask(peer, zone, task.id);
};
const ended = (): Promise<void> => until('an end of all viewers', () => viewersIn(server).length === 0);

describe('a view', () => {
  test('shows the past, then what happens, says when the queue is empty, and is gone with its viewer', async () => {
    await done('echo once before');
    const view = await openViewer(peer, zone, HERO);
    await view.sees('once before');
    await view.sees('queue is empty');
    view.clear();
    await done('echo now live');
    await view.sees(/now live[\s\S]*queue is empty/);
    view.type('\x04');
    expect(await view.over).toBeUndefined();
    expect(await endOf(peer, view.viewer)).toEqual({ parting: 'left' });
    await ended();
    await until('the end of its program', () => server.processes().every((pid) => !isView(pid)));
  });

  test('lets nothing through that a clone prints to drive a terminal', async () => {
    const evil = [
      '\x1b]52;c;ZXZpbA==\x07',
      '\x1b]0;owned\x07',
      '\x1bP+q544e\x1b\\',
      '\x1b[?1049l\x1b[21t',
      '\x1bPtmux;\x1b\x1b]52;c;ZXZpbA==\x07\x1b\\',
      '\xc2\x9b2J',
      '\x1b[31mred',
    ];
    writeFileSync(join(zone.path, 'evil'), `begin ${evil.join(' ')} end\n`, 'latin1');
    await done('cat evil');
    const view = await openViewer(peer, zone, HERO);
    await view.sees(/begin.*red end/);
    const drawn = view.drawn();
    for (const part of ['ZXZpbA', 'owned', '\x1b[21t', '544e', '\x1b[31mred', '\x9b']) {
      expect(drawn).not.toContain(part);
    }
    // tmux's own way out of the alternate screen comes only at the end.
    expect(drawn).not.toContain('\x1b[?1049l');
    await endOf(peer, view.viewer);
  });

  test('has each viewer in its own size, and scrolls for who scrolls', async () => {
    await done('seq -f "line %g of many" 200');
    const small = await openViewer(peer, zone, HERO, { size: { columns: 40, rows: 10 } });
    const large = await openViewer(peer, zone, HERO, { size: { columns: 120, rows: 50 } });
    const low = (): string => paneOf(server, small.viewer);
    const high = (): string => paneOf(server, large.viewer);
    await until('the end of both', () => low().includes('is empty') && high().includes('is empty'));
    const FORMAT = '#{session_name} #{client_width}x#{client_height} #{window_width}x#{window_height}';
    const sizes = (): string => askTmux(server, 'list-clients', '-F', FORMAT);
    expect(sizes()).toContain(`${small.viewer} 40x10 40x10`);
    expect(sizes()).toContain(`${large.viewer} 120x50 120x50`);
    await small.resize(60, 12);
    await until('the new size', () => sizes().includes('60x12 60x12'));
    expect(sizes()).toContain('120x50 120x50');
    const scrolled = (viewer: string): string =>
      askTmux(
        server,
        'display-message',
        '-p',
        '-t',
        `=${viewer}:`,
        '#{pane_in_mode} #{scroll_position}',
      ).trim();
    for (const [keys, state] of [
      ['\x1b[5~', '1 10'],
      ['\x1b[5~', '1 20'],
      ['q', '0'],
      ['\x02[', '1 0'],
      ['\x1b[5~', '1 10'],
    ] as const) {
      small.type(keys);
      await until(`${state} after ${JSON.stringify(keys)}`, () => scrolled(small.viewer) === state);
    }
    expect(scrolled(large.viewer)).toBe('0');
    await Promise.all([endOf(peer, small.viewer), endOf(peer, large.viewer)]);
  });

  test('takes what is typed and gives it to nobody', async () => {
    const { task } = await addTask(peer, zone, 'read line; echo "heard $line"');
    await untilTask(peer, zone, task.id);
    const view = await openViewer(peer, zone, HERO);
    await view.sees('queue is empty');
    view.clear();
    // Ctrl-C, a word, tmux's own keys for a new window and its prompt.
    view.type('\x03words\r\x02c\x02:kill-server\r\x1a\x1c');
    view.type('\x02\x1b[5~');
    await done('echo still here');
    view.type('q');
    await view.sees('still here');
    expect(view.drawn()).not.toContain('words');
    expect(askTmux(server, 'list-windows', '-t', `=${view.viewer}`).trim().split('\n')).toHaveLength(1);
    await endOf(peer, view.viewer);
  });

  test('goes on where it was when the server dies: nothing is missing and nothing comes twice', async () => {
    const viewer = newViewer();
    const { task } = await addTask(peer, zone, 'for i in $(seq 40); do echo "tick $i."; sleep 0.05; done');
    await untilTask(peer, zone, task.id, ['active']);
    const screen = await openScreen(peer, server, { zone, sight: HERO, viewer });
    await until('a first line', () => screen.text().includes('tick 3.'));
    await server.kill9();
    peer = await server.peer();
    await untilTask(peer, zone, task.id);
    await until('the last line', () => screen.text().includes('tick 40.'));
    const all = paneOf(server, viewer, '-S', '-');
    const ticks = [...all.matchAll(/tick (\d+)\./g)].map((match) => Number(match[1]));
    expect(ticks).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    // The new server knows it, and Ctrl-D needs no server at all.
    expect(await call(peer, 'attach.detach', { zone: zone.id })).toEqual({ ended: 1 });
    await until('the end of its screen', screen.isOver);
    expect(await endOf(peer, viewer)).toEqual({ parting: 'detached' });
  });
});

describe('a terminal', () => {
  beforeEach(() => done('echo hello'));

  test('of this machine gets the words of a client, and ends with Ctrl-D', async () => {
    const viewer = newViewer();
    const screen = await openScreen(peer, server, { zone, sight: HERO, viewer });
    await until('the view', () => screen.text().includes('hello'));
    screen.keys('C-d');
    await until('its end', screen.isOver);
    expect(await endOf(peer, viewer)).toEqual({ parting: 'left' });
    await ended();
  });

  test('with a name that this host does not know is given one that it knows', async () => {
    const terminal = { ...terminalOf({}), term: 'no-such-terminal' };
    const wish = { zone: zone.id, viewer: newViewer(), sight: HERO, terminal };
    const { env } = await call<{ env: Record<string, string> }>(peer, 'attach.prepare', wish);
    expect(env.TERM).toMatch(/^(xterm|tmux|screen)/);
    const view = await openViewer(peer, zone, HERO, { viewer: wish.viewer, term: '; touch x' });
    await view.sees('hello');
    await endOf(peer, view.viewer);
  });

  test('that opens the same viewer again takes the place of the one before', async () => {
    const first = await openViewer(peer, zone, HERO);
    await first.sees('hello');
    const second = await openViewer(peer, zone, HERO, { viewer: first.viewer });
    expect(await first.over).toMatchObject({ code: 'interrupted' });
    await second.sees('hello');
    await done('echo and on');
    await second.sees('and on');
    expect(viewersIn(server)).toEqual([first.viewer]);
    await endOf(peer, second.viewer);
    expect(await second.over).toBeUndefined();
  });

  test('that goes away without a word leaves nothing behind', async () => {
    const view = await openViewer(peer, zone, HERO);
    await view.sees('hello');
    view.cancel();
    await ended();
    const other = await server.peer();
    const lost = await openViewer(other, zone, HERO);
    await lost.sees('hello');
    other.close();
    await ended();
    await until('no pty', () => server.processes().every((pid) => !commandOf(pid).includes('script')));
  });

  test('is refused where there is nothing to see', async () => {
    await expect(openViewer(peer, zone, { kind: 'view', clone: 'mechanic.9' })).rejects.toMatchObject({
      code: 'not-found',
    });
    await expect(openViewer(peer, makeZone(server), HERO)).rejects.toMatchObject({ code: 'not-found' });
    expect(await endOf(peer, newViewer())).toEqual({ parting: 'left' });
  });
});

describe('a parting', () => {
  beforeEach(() => done('echo hello'));

  test('is told as gone when the clone or the zone went away', async () => {
    const view = await openViewer(peer, zone, HERO);
    await view.sees('hello');
    await call(peer, 'crew.del', { zone: zone.id, clones: ['mechanic.1'], force: true });
    expect(await view.over).toBeUndefined();
    expect(await endOf(peer, view.viewer)).toEqual({ parting: 'gone' });

    const shell = await openViewer(peer, zone, { kind: 'shell' });
    await shell.sees(/[$#%>]/);
    await call(peer, 'zone.del', { zone: zone.id, force: true });
    expect(await shell.over).toBeUndefined();
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'gone' });
    expect(viewersIn(server)).toEqual([]);
  });

  test('is told as lost when tmux died, and opening again brings the view back', async () => {
    const view = await openViewer(peer, zone, HERO);
    await view.sees('hello');
    kill9([server.tmuxPid() ?? 0]);
    expect(await view.over).toBeUndefined();
    expect(await endOf(peer, view.viewer)).toEqual({ parting: 'lost' });
    const again = await openViewer(peer, zone, HERO, { viewer: view.viewer });
    await again.sees('hello');
    await endOf(peer, again.viewer);
  });

  test('is told as detached to all viewers of the zone, and to no other', async () => {
    const other = makeZone(server);
    await bringEnvironment(peer, server, other);
    const { task } = await addTask(peer, other, 'echo elsewhere');
    await untilTask(peer, other, task.id);
    const view = await openViewer(peer, zone, HERO);
    const shell = await openViewer(peer, zone, { kind: 'shell' });
    const stays = await openViewer(peer, other, HERO);
    expect(await call(peer, 'attach.detach', { zone: zone.id })).toEqual({ ended: 2 });
    expect(await view.over).toBeUndefined();
    expect(await endOf(peer, view.viewer)).toEqual({ parting: 'detached' });
    expect(await endOf(peer, shell.viewer)).toEqual({ parting: 'detached' });
    expect(await call(peer, 'attach.detach', { zone: zone.id })).toEqual({ ended: 0 });
    await stays.sees('elsewhere');
    await endOf(peer, stays.viewer);
  });
});

const commandOf = (pid: number): string => {
  try {
    return readFileSync(join('/proc', String(pid), 'cmdline'), 'latin1');
  } catch {
    return '';
  }
};
const isView = (pid: number): boolean => commandOf(pid).includes('\0view\0');
