import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Sight } from '../../src/protocol/attach.ts';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import { createFloor, type Floor } from '../../src/server/attach/floor.ts';
import { endSession, findsertSession, type SessionSpec } from '../../src/server/attach/session.ts';
import { recover, sweep, UNSEEN_MS } from '../../src/server/attach/sweep.ts';
import { openStore, type Store } from '../../src/server/store/store.ts';
import { enroll, findOrMakeZone } from '../../src/server/store/zones.ts';
import { createHolder, type Holder } from '../../src/server/tmux/panes.ts';
import { POLICY } from '../fixtures/server.ts';
import { createScratchTmux } from './tmux/scratch-tmux.ts';

/** Viewers that nobody ends: found again by a new server, and ended when nobody comes back to them. */

const ZONE: ZoneSpec = { id: 'z-0123456789abcdef', address: 'a/b@c', branch: 'c', mode: 'local', path: '/' };
const VIEW: Sight = { kind: 'view', clone: 'mechanic.1' };
const SHELL: Sight = { kind: 'shell' };

let scratch: ReturnType<typeof createScratchTmux>;
let store: Store;
let holder: Holder;
let floor: Floor;

const newFloor = (): Floor =>
  createFloor({
    ...{ store, holder, socketPath: scratch.where.socketPath, dir: join(scratch.dir, 'viewers') },
    ...{ bundle: '', home: '', baseEnvironment: { PATH: scratch.where.path } },
    environmentOf: () => undefined,
    log: () => undefined,
  });

beforeEach(async () => {
  scratch = createScratchTmux();
  store = openStore(join(scratch.dir, 'state.db'), join(scratch.dir, 'zones'));
  holder = createHolder(scratch.where);
  floor = newFloor();
  await store.write(() => {
    findOrMakeZone(store, join(scratch.dir, 'zones'), ZONE, POLICY, 1);
    enroll(store, { zone: ZONE.id, role: 'mechanic', brain: 'sh', hero: true }, 1);
  });
});
afterEach(async () => {
  await holder.shutDown();
  store.close();
  scratch.remove();
});

const program = () => ({ argv: ['/bin/sleep', '1000'], env: {}, cwd: '/' });
const open = async (letter: string, sight: Sight, over: Partial<SessionSpec> = {}): Promise<string> => {
  const viewer = `v-${letter.repeat(16)}`;
  const spec: SessionSpec = { viewer, zone: ZONE.id, sight, columns: 80, rows: 24, program, ...over };
  const seen = await holder.ask((control) => findsertSession(control, spec));
  floor.known.set(viewer, { ...seen, turn: 1 });
  return viewer;
};
const look = (nowMs: number): Promise<void> => holder.ask(sweep(floor, nowMs));
const left = (): string[] => [...floor.known.keys()].sort();

test('a view whose terminal never comes ends after a minute, a shell after a day', async () => {
  const [view, shell] = [await open('a', VIEW), await open('b', SHELL)];
  await look(0);
  await look(UNSEEN_MS.view);
  expect(left()).toEqual([view, shell]);
  await look(UNSEEN_MS.view + 1);
  expect(left()).toEqual([shell]);
  expect(floor.partings.of(view)).toEqual({ parting: 'left' });
  expect(scratch.ask('list-sessions', '-F', '#{session_name}').split('\n').sort()).toEqual([
    '',
    'khlone',
    shell,
  ]);
  await look(UNSEEN_MS.shell + 1);
  expect(left()).toEqual([]);
});

test('a new server finds the viewers that tmux holds, and what they show', async () => {
  const [view, shell] = [await open('a', VIEW), await open('b', SHELL)];
  const later = newFloor();
  await recover(later);
  expect([...later.known.values()].map(({ viewer, sight, zone }) => [viewer, sight, zone])).toEqual([
    [view, VIEW, ZONE.id],
    [shell, SHELL, ZONE.id],
  ]);
});

test('a new server starts no tmux to look for viewers', async () => {
  const pid = scratch.serverPid.bind(scratch);
  await holder.shutDown();
  await recover(newFloor());
  expect(pid).toThrow();
});

test('viewers of a zone or a clone that is gone end with it', async () => {
  const [view, shell] = [await open('a', VIEW), await open('b', SHELL)];
  await store.write(() => store.run('UPDATE clones SET gone_ms = 1'));
  await look(0);
  expect(left()).toEqual([shell]);
  expect(floor.partings.of(view)).toEqual({ parting: 'gone' });
  await store.write(() => store.run('UPDATE zones SET deleted_ms = 1'));
  await look(0);
  expect(left()).toEqual([]);
  expect(floor.partings.of(shell)).toEqual({ parting: 'gone' });
});

test('the same viewer finds its session, and another sight begins a new one', async () => {
  const viewer = await open('a', SHELL);
  const paneOf = (): string => scratch.ask('list-panes', '-s', '-t', `=${viewer}`, '-F', '#{pane_id}');
  const before = paneOf();
  await open('a', SHELL);
  expect(paneOf()).toBe(before);
  await open('a', VIEW);
  expect(paneOf()).not.toBe(before);
  await holder.ask((control) => endSession(control, viewer));
  await holder.ask((control) => endSession(control, viewer));
  await look(0);
  expect(floor.partings.of(viewer)).toEqual({ parting: 'left' });
});

test('no key of a viewer leads to the clones: only those named here do anything', async () => {
  const viewer = await open('a', VIEW);
  const option = (name: string): string =>
    scratch.ask('show-options', '-v', '-t', `=${viewer}:`, name).trim();
  expect([option('key-table'), option('prefix'), option('prefix2')]).toEqual(['khlone-view', 'None', 'None']);
  const keys = ['khlone-view', 'khlone-shell', 'khlone-prefix'].flatMap((table) =>
    scratch.ask('list-keys', '-T', table).trim().split('\n'),
  );
  const commands = new Set(keys.map((line) => /-T \S+\s+\S+\s+(\S+)/.exec(line)?.[1]));
  expect([...commands].sort()).toEqual(['copy-mode', 'detach-client', 'send-keys', 'switch-client']);
});
