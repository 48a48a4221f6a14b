import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { listeningPaths } from '../../src/brains/view-places.ts';
import { isWithin, type Mount, type Place, type Places, planMounts } from '../../src/brains/view-plan.ts';

const folder = (path: string): Place => ({ path, folder: true });

const PLACES: Places = {
  mode: 'act',
  worktree: folder('/home/u/work'),
  writable: [folder('/home/u/.brain'), folder('/home/u/repo/.git')],
  tmpDir: folder('/home/u/.khlone/runs/1/tmp'),
  sharedTemps: [folder('/tmp')],
  hide: [folder('/home/u/.khlone'), folder('/home/u/.khlone/runs/1'), folder('/tmp/tmux-1')],
  readable: [],
  door: undefined,
};

const lines = (mounts: Mount[]): string[] =>
  mounts.map((mount) => `${mount.kind} ${mount.at}${mount.from === mount.at ? '' : ` from ${mount.from}`}`);

describe('the mounts of a view', () => {
  it('are few, and parents come first', () => {
    expect(lines(planMounts(PLACES))).toEqual([
      'rw /tmp from /home/u/.khlone/runs/1/tmp',
      'hide /home/u/.khlone',
      'rw /home/u/work',
      'rw /home/u/.brain',
      'rw /home/u/repo/.git',
      'rw /home/u/.khlone/runs/1/tmp',
    ]);
  });

  it('leave the worktree of an ask as it is where nothing hides it, else show it to be read', () => {
    const paths = (places: Places) => planMounts(places).filter(({ at }) => at === places.worktree.path);
    const ask: Places = { ...PLACES, mode: 'ask' };
    expect(lines(paths(ask))).toEqual([]);
    expect(lines(paths({ ...ask, worktree: folder('/tmp/work') }))).toEqual(['ro /tmp/work']);
    expect(lines(paths({ ...ask, worktree: folder('/home/u/.khlone/work') }))).toEqual([
      'ro /home/u/.khlone/work',
    ]);
    expect(lines(paths({ ...ask, worktree: folder('/home/u/.brain/work') }))).toEqual([
      'ro /home/u/.brain/work',
    ]);
  });

  it('hide what lies inside a worktree', () => {
    expect(lines(planMounts({ ...PLACES, worktree: folder('/home/u') })).slice(0, 3)).toEqual([
      'rw /tmp from /home/u/.khlone/runs/1/tmp',
      'rw /home/u',
      'hide /home/u/.khlone',
    ]);
  });

  it('show a place under a hidden folder from where it really lies', () => {
    const readable = [{ path: '/run/system', folder: true, from: '/store/system' }];
    expect(lines(planMounts({ ...PLACES, hide: [folder('/run')], readable }))).toContain(
      'ro /run/system from /store/system',
    );
  });
});

const KIND_ORDER = { hide: 0, ro: 1, rw: 2 };
const path = fc
  .array(fc.constantFrom('a', 'b', 'tmp'), { minLength: 1, maxLength: 4 })
  .map((names) => `/${names.join('/')}`);
const places = fc.record({
  mode: fc.constantFrom('ask' as const, 'act' as const),
  worktree: path.map(folder),
  writable: fc.array(path.map(folder)),
  tmpDir: path.map(folder),
  sharedTemps: fc.constant<Place[]>([folder('/tmp')]),
  hide: fc.array(path.map(folder)),
  readable: fc.array(path.map(folder)),
  door: fc.option(path.map(folder), { nil: undefined }),
});

/** What a plan does to a path: the last mount around it decides. */
const seen = (mounts: Mount[], at: string): string => {
  const last = mounts.findLast((mount) => isWithin(at, mount.at));
  if (!last) return 'ro';
  return last.kind === 'hide' || last.from !== last.at ? 'gone' : last.kind;
};

/** What the spec says about a path: the deepest place around it decides, and of two that are one, the stronger. */
const meant = (spec: Places, at: string): string => {
  const writable = [...spec.writable, spec.tmpDir, ...(spec.mode === 'act' ? [spec.worktree] : [])];
  const all = [
    ...writable.map((place) => ({ at: place.path, kind: 'rw' as const })),
    ...[spec.worktree, ...spec.readable, ...(spec.door ? [spec.door] : [])].map((place) => ({
      at: place.path,
      kind: 'ro' as const,
    })),
    ...spec.hide.map((place) => ({ at: place.path, kind: 'hide' as const })),
    ...(writable.some((place) => place.path === '/tmp') ? [] : [{ at: '/tmp', kind: 'foreign' as const }]),
  ].filter((place) => isWithin(at, place.at));
  const strength = (kind: (typeof all)[number]['kind']) => (kind === 'foreign' ? 3 : KIND_ORDER[kind]);
  const [first] = all.sort((a, b) => b.at.length - a.at.length || strength(b.kind) - strength(a.kind));
  if (!first) return 'ro';
  return first.kind === 'hide' || first.kind === 'foreign' ? 'gone' : first.kind;
};

describe('any plan', () => {
  it('does to every path what the deepest place around it says', () => {
    fc.assert(
      fc.property(places, path, (spec, at) => {
        expect(seen(planMounts(spec), at)).toBe(meant(spec, at));
      }),
      { numRuns: 5_000 },
    );
  });

  it('mounts each path once, and never below a later mount', () => {
    fc.assert(
      fc.property(places, (spec) => {
        const at = planMounts(spec).map((mount) => mount.at);
        expect(new Set(at).size).toBe(at.length);
        for (const [index, later] of at.entries())
          expect(at.slice(0, index).some((earlier) => earlier !== later && isWithin(earlier, later))).toBe(
            false,
          );
      }),
    );
  });
});

describe('the list of sockets', () => {
  it('gives those that listen at a path', () => {
    const table = [
      'Num       RefCount Protocol Flags    Type St Inode Path',
      '00000000a: 00000002 00000000 00010000 0001 01 1234 /run/a socket',
      '00000000b: 00000002 00000000 00010000 0005 01 1235 /run/b',
      '00000000c: 00000003 00000000 00000000 0001 03 1236 /run/connected',
      '00000000d: 00000002 00000000 00010000 0001 01 1237 @abstract',
      '00000000e: 00000003 00000000 00000000 0001 03 1238',
    ].join('\n');
    expect(listeningPaths(table)).toEqual(['/run/a socket', '/run/b']);
  });
});
