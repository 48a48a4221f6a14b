import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ZoneView } from '../protocol/calls.ts';
import type { Home } from '../protocol/home.ts';
import type { App, Known } from './app.ts';
import { writeIndex, writeZoneLine } from './shell-state.ts';

/** What was last seen of each zone: in memory, in cache/ for the time off line, and as a line for prompts. */

const connOf = (app: App, host: string): 'online' | 'offline' | 'connecting' => {
  const state = app.link(host).state();
  if (state === 'connecting') return 'connecting';
  return state === 'online' || host === 'local' ? 'online' : 'offline';
};

export const createKnown = (home: Home, appOf: () => App): Known => {
  const views = new Map<string, { view: ZoneView; atMs: number }>();
  const fileOf = (zone: string): string => join(home.cache, `${zone}.json`);

  const get = (zone: string): { view: ZoneView; atMs: number } | undefined => {
    const known = views.get(zone);
    if (known) return known;
    try {
      const { view, atMs } = JSON.parse(readFileSync(fileOf(zone), 'utf8'));
      const kept = { view: ZoneView.parse(view), atMs: Number(atMs) };
      views.set(zone, kept);
      return kept;
    } catch {
      return undefined;
    }
  };

  const touch = (zone: string): void => {
    const app = appOf();
    const binding = app.bindings.byZone(zone);
    if (!binding) return;
    const view = get(zone)?.view;
    const waiting = app.outbox
      .list(binding.host)
      .filter((q) => entryZone(q.entry.call.params) === zone).length;
    writeIndex(
      home.root,
      app.bindings
        .all()
        .sort((a, b) => b.usedMs - a.usedMs)
        .map((b) => ({ root: b.root, key: b.zone })),
    );
    writeZoneLine(home.root, zone, {
      label: `@${binding.branch}`,
      mode: binding.mode,
      conn: connOf(app, binding.host),
      active: view?.crew.filter((c) => c.state === 'active').length ?? 0,
      queued: (view?.crew.reduce((sum, c) => sum + c.queued, 0) ?? 0) + waiting,
      patches: 0,
      conflicts: 0,
      attention: view?.attention.length ?? 0,
      epochSeconds: Math.floor(Date.now() / 1000),
    });
  };

  return {
    get,
    touch,
    put: (view) => {
      const kept = { view, atMs: Date.now() };
      views.set(view.id, kept);
      mkdirSync(home.cache, { recursive: true, mode: 0o700 });
      const temp = `${fileOf(view.id)}.${process.pid}`;
      writeFileSync(temp, JSON.stringify(kept), { mode: 0o600 });
      renameSync(temp, fileOf(view.id));
      touch(view.id);
    },
    forget: (zone) => {
      views.delete(zone);
      rmSync(fileOf(zone), { force: true });
    },
  };
};

const entryZone = (params: unknown): string | undefined => (params as { zone?: { id?: string } }).zone?.id;
