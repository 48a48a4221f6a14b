import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MARK, makeRunDir, RUNNER } from '../../src/server/run-dir.ts';
import {
  addTask,
  bringEnvironment,
  kill9,
  makeZone,
  startServer,
  until,
  untilTask,
} from '../fixtures/server.ts';

/** The runner and each program that it starts, killed before and after their work: no task waits long, none is done twice. */

/**
 * A program in the runner's way: once, where its words match, it dies (or kills the runner) before or after its work.
 * $0 is its name, because it is found on the PATH before the real one.
 */
const FATED = `#!/bin/sh
name=\${0##*/}
real=/usr/bin/$name
case "$name $*" in
  *"$FATED"*)
    if /usr/bin/mkdir "$ONCE" 2>/dev/null; then
      case $FATE in
        'dies before') kill -9 $$ ;;
        'dies after') "$real" "$@"; kill -9 $$ ;;
        'kills its parent before') kill -9 $PPID; exec "$real" "$@" ;;
        'kills its parent after') "$real" "$@"; kill -9 $PPID; exit ;;
      esac
    fi
    ;;
esac
exec "$real" "$@"
`;

const FATES = ['dies before', 'dies after', 'kills its parent before', 'kills its parent after'];
/** Each program that the runner starts, with words that only this use of it has. */
const PROGRAMS = {
  mkdir: '/started',
  meta: '/meta.json',
  exit: '/exit',
  grep: '/environ',
  tail: '/in.jsonl',
};

describe('a runner in which', () => {
  const cases = Object.entries(PROGRAMS).flatMap(([name, words]) =>
    FATES.map((fate) => ({ name, words, fate })),
  );
  // `tail` and `exec` leave nothing that could be done after it.
  const possible = cases.filter(({ name, fate }) => name !== 'tail' || fate.endsWith('before'));

  test.concurrent.each(possible)(
    '$name $fate holds up no task',
    async ({ name, words, fate }) => {
      const home = await startServer({
        env: { FATED: words, FATE: fate, ONCE: join('/tmp', `once-${process.pid}-${Math.random()}`) },
      });
      try {
        const bin = join(home.work, 'bin');
        mkdirSync(bin);
        for (const program of ['mkdir', 'mv', 'grep', 'tail']) {
          writeFileSync(join(bin, program), FATED, { mode: 0o755 });
        }
        home.env.PATH = `${bin}:${home.env.PATH}`;
        const own = await home.peer();
        const place = makeZone(home);
        await bringEnvironment(own, home, place);
        // Of two modes, so that the end of a run is met as well.
        const wishes = [{}, {}, { kind: 'ask' as const }, {}];
        const tasks = [];
        for (const [i, wish] of wishes.entries()) {
          tasks.push(
            (await addTask(own, place, `echo ${i}${'kind' in wish ? '' : ' >> tokens'}`, wish)).task,
          );
        }
        // A brain without its runner is ended in the middle of its turn, whose outcome nobody knows then.
        const ends = name === 'tail' && fate.startsWith('kills') ? ['done', 'unknown'] : ['done'];
        const done: string[] = [];
        for (const [i, { id }] of tasks.entries()) {
          const { state } = await untilTask(own, place, id, undefined, 12_000);
          expect(ends).toContain(state);
          if (state === 'done' && !('kind' in (wishes[i] ?? {}))) done.push(String(i));
        }
        const tokens = readFileSync(join(place.path, 'tokens'), 'utf8').trim().split('\n');
        expect(tokens).toEqual([...new Set(tokens)].sort());
        expect(tokens).toEqual(expect.arrayContaining(done));
        // What looks at the feeder behind the end may be swept away with the rest of the run before it begins.
        if (name !== 'grep') expect(existsSync(home.env.ONCE ?? ''), 'the fate was met').toBe(true);
      } finally {
        await home.dispose();
      }
    },
    60_000,
  );
});

test('a runner whose feeding tail has ended before it leaves the process alone that has its number now', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'khlone-runner-'));
  makeRunDir(dir, {});
  const stranger = spawn('sleep', ['60'], { stdio: 'ignore' });
  const strangersEnd = new Promise((resolve) => stranger.once('close', (_code, signal) => resolve(signal)));
  const brain =
    'until test -s "$1/tail.pid"; do :; done; cp "$1/tail.pid" "$1/true.pid"; echo $2 > "$1/tail.pid"';
  const words = ['sh', '-c', brain, 'brain', dir, String(stranger.pid)];
  const env = { ...process.env, [MARK]: `test/${process.pid}/runner` };
  const runner = spawn('sh', ['-c', RUNNER, 'runner', dir, dir, ...words], { env, stdio: 'ignore' });
  const runnersEnd = new Promise((resolve) => runner.once('close', resolve));
  try {
    await until('the end of the brain', () => existsSync(join(dir, 'exit')));
    // The runner waits for its own tail: its last step is behind it when it ends. That tail may have seen for itself
    // that nobody reads any more.
    kill9([Number(readFileSync(join(dir, 'true.pid'), 'utf8'))]);
    await runnersEnd;
    stranger.kill('SIGKILL');
    expect(await strangersEnd).toBe('SIGKILL');
  } finally {
    stranger.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
});
