import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { writeIndex, writeZoneLine } from '../src/client/shell-state.ts';
import { against, median, type Row } from './row.ts';

/** What the plugin adds to each prompt and to the start of a shell, beside spawning /bin/true in the same shell. */

const run = promisify(execFile);
const LOADS = 15;

/**
 * Prints one figure per line, `name microseconds`, each timed on its own and taken in turns, so that what else the
 * machine does falls on all of them. Ten prompts make one figure: a single one is near what the clock can tell.
 */
const SCRIPTS = {
  zsh: `zmodload zsh/datetime
    t=$EPOCHREALTIME; . "$1"; print load $(( (EPOCHREALTIME - t) * 1e6 ))
    for r in {1..100}; do
      for at in out in; do
        cd $2/$at; __khlone_precmd
        t=$EPOCHREALTIME; for i in {1..10}; do __khlone_precmd; done; print $at $(( (EPOCHREALTIME - t) * 1e5 ))
      done
      t=$EPOCHREALTIME; /bin/true; print true $(( (EPOCHREALTIME - t) * 1e6 ))
    done`,
  bash: `t=\${EPOCHREALTIME/[.,]/}; . "$1"; echo load $((\${EPOCHREALTIME/[.,]/} - t))
    for r in {1..100}; do
      for at in out in; do
        cd $2/$at; __khlone_precmd
        t=\${EPOCHREALTIME/[.,]/}; for i in {1..10}; do __khlone_precmd; done; echo $at $(((\${EPOCHREALTIME/[.,]/} - t) / 10))
      done
      t=\${EPOCHREALTIME/[.,]/}; /bin/true; echo true $((\${EPOCHREALTIME/[.,]/} - t))
    done`,
};

const ARGS = { zsh: ['-f', '-c'], bash: ['--norc', '-c'] };

type Figures = Record<'load' | 'out' | 'in' | 'true', number[]>;

const measure = async (shell: 'zsh' | 'bash', root: string): Promise<Figures> => {
  const plugin = resolve(import.meta.dirname, `../shell/khlone.${shell}`);
  const env = { PATH: process.env.PATH, HOME: root, KHLONE_HOME: join(root, 'home'), LC_ALL: 'C.UTF-8' };
  const figures: Figures = { load: [], out: [], in: [], true: [] };
  const take = (stdout: string) => {
    for (const line of stdout.trim().split('\n')) {
      const [name, us] = line.trim().split(' ');
      figures[name as keyof Figures].push(Number(us));
    }
  };
  take((await run(shell, [...ARGS[shell], SCRIPTS[shell], shell, plugin, root], { env })).stdout);
  const [load = ''] = SCRIPTS[shell].split('\n    for r');
  for (let i = 0; i < LOADS; i += 1) {
    take((await run(shell, [...ARGS[shell], load, shell, plugin, root], { env })).stdout);
  }
  return figures;
};

/** Median µs of a prompt in a zone and out of zones, and of loading the plugin; needs zsh and bash 5 or later. */
export const benchPrompt = async (): Promise<Row[]> => {
  const root = mkdtempSync(join(tmpdir(), 'khlone-bench-'));
  const home = join(root, 'home');
  try {
    for (const name of ['in', 'out']) mkdirSync(join(root, name));
    const others = Array.from({ length: 20 }, (_, i) => ({ root: `/srv/worktrees/${i}`, key: `k${i}` }));
    writeIndex(home, [{ root: join(root, 'in'), key: 'here' }, ...others]);
    const epochSeconds = Date.now() / 1000 + 60;
    const counts = { active: 1, queued: 2, patches: 0, conflicts: 0, attention: 0 };
    writeZoneLine(home, 'here', {
      label: '@feat/auth',
      mode: 'ssh',
      conn: 'online',
      ...counts,
      epochSeconds,
    });
    const rows: Row[] = [];
    for (const shell of ['zsh', 'bash'] as const) {
      const figures = await measure(shell, root);
      const spawned = { name: `${shell} spawning /bin/true`, value: median(figures.true) };
      rows.push(against(`prompt out of zones, ${shell}`, median(figures.out), 'µs', spawned, 0.05));
      rows.push(against(`prompt in a zone, ${shell}`, median(figures.in), 'µs', spawned, 0.05));
      const loadUs = median(figures.load);
      const load = { name: `plugin load, ${shell}`, value: loadUs, unit: 'µs', anchor: 'a fixed bar' };
      rows.push({ ...load, target: '≤ 2000 µs', ok: loadUs <= 2000 });
    }
    return rows;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
};
