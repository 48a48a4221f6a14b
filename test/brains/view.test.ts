import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { View, ViewMode, ViewSpec } from '../../src/brains/view.ts';
import { bwrapViews } from '../../src/brains/view-bwrap.ts';
import { isInside } from '../../src/brains/view-inside.ts';
import { currentOwner } from '../../src/brains/view-tools.ts';
import { unshareViews } from '../../src/brains/view-unshare.ts';
import { until } from '../fixtures/server.ts';
import { asOwner, groundParent, listen, ODD_NAME } from './escape-ground.ts';

const self = currentOwner();
const stranger = { uid: 65_534, gid: 65_534 };
const owners = self.uid === 0 ? [self, stranger] : [self];
const cases = owners.flatMap((owner) =>
  [...bwrapViews(process.env, owner), ...unshareViews(process.env, owner)].map((candidate) => ({
    ...{ owner, view: candidate.view, title: `${candidate.name} as uid ${owner.uid}` },
  })),
);

const allowed =
  spawnSync('unshare', [...(self.uid === 0 ? [] : ['--map-root-user']), '--mount', 'true']).status === 0;

let root: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(groundParent(), 'khlone-view-')));
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await until('processes to end', () =>
    children.every((child) => child.exitCode !== null || child.signalCode !== null),
  );
  children.length = 0;
  rmSync(root, { recursive: true, force: true });
});

type Owner = typeof self;

/** A spec whose folders exist and belong to the owner; `change` names other places below the root. */
const makeSpec = (owner: Owner, mode: ViewMode, change: Partial<ViewSpec> = {}): ViewSpec => {
  const spec: ViewSpec = {
    ...{
      mode,
      worktree: join(root, ODD_NAME),
      gitDirs: [],
      statePaths: [join(root, 'state')],
      cachePaths: [],
    },
    ...{ tmpDir: join(root, 'home/run/tmp'), hide: [join(root, 'home')], runDir: join(root, 'home/run') },
    ...change,
  };
  for (const path of [spec.worktree, ...spec.statePaths, spec.tmpDir, spec.runDir])
    mkdirSync(path, { recursive: true });
  own(root, owner);
  return spec;
};

const own = (path: string, owner: Owner): void => {
  chownSync(path, owner.uid, owner.gid);
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) own(join(path, entry.name), owner);
};

const start = (owner: Owner, argv: string[], options: Parameters<typeof spawn>[2] = {}): ChildProcess => {
  const [program = '', ...rest] = asOwner(owner, argv);
  const child = spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/', ...options });
  children.push(child);
  return child;
};

const run = async (owner: Owner, view: View, spec: ViewSpec, script: string, ...args: string[]) => {
  const child = start(owner, view.wrap(['sh', '-c', script, 'sh', ...args], spec).argv);
  let out = '';
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  child.stdin?.end();
  const [code] = await once(child, 'close');
  return { out, code };
};

const marked = (mark: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(`KHLONE_RUN=${mark}`);
      } catch {
        return false;
      }
    })
    .map(Number);

describe.runIf(allowed).each(cases)('$title', ({ owner, view }) => {
  it('gives the exit code of the inner program, and 128 + n after a signal', async () => {
    const spec = makeSpec(owner, 'ask');
    expect((await run(owner, view, spec, 'exit 7')).code).toBe(7);
    expect((await run(owner, view, spec, 'kill -9 $$')).code).toBe(137);
  });

  it('starts in the worktree with a temporary folder of its own, which is /tmp too', async () => {
    const spec = makeSpec(owner, 'ask');
    const { out } = await run(
      owner,
      view,
      spec,
      'printf "%s|%s" "$PWD" "$TMPDIR"; echo x > /tmp/one; echo x > "$TMPDIR/two"',
    );
    expect(out).toBe(`${spec.worktree}|${spec.tmpDir}`);
    expect(readdirSync(spec.tmpDir).sort()).toEqual(['one', 'two']);
  });

  it('hands arguments and environment through unchanged', async () => {
    const child = start(owner, view.wrap(['printenv', 'PATH', 'ODD'], makeSpec(owner, 'act')).argv, {
      env: { PATH: `/odd\n:${process.env.PATH}`, ODD: ODD_NAME },
    });
    let out = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
    });
    await once(child, 'close');
    expect(out).toBe(`/odd\n:${process.env.PATH}\n${ODD_NAME}\n`);
  });

  it.each(['home/run/zone', 'home'])('lets an act work in a worktree at %s', async (name) => {
    const spec = makeSpec(owner, 'act', { worktree: join(root, name), hide: [join(root, 'home/run')] });
    writeFileSync(join(root, 'home/run/secret'), 'x');
    const { code } = await run(
      owner,
      view,
      spec,
      'echo x > made && ! cat "$1"',
      join(root, 'home/run/secret'),
    );
    expect(code).toBe(0);
    expect(existsSync(join(spec.worktree, 'made'))).toBe(true);
  });

  it('lets an act work in a worktree below /tmp, and an ask read it', async () => {
    const worktree = realpathSync(mkdtempSync(join(tmpdir(), 'khlone-view-')));
    chownSync(worktree, owner.uid, owner.gid);
    try {
      const act = await run(owner, view, makeSpec(owner, 'act', { worktree }), 'echo x > made');
      expect([act.code, readdirSync(worktree)]).toEqual([0, ['made']]);
      const ask = await run(owner, view, makeSpec(owner, 'ask', { worktree }), 'cat made && ! rm -f made');
      expect([ask.code, readdirSync(worktree)]).toEqual([0, ['made']]);
    } finally {
      rmSync(worktree, { recursive: true });
    }
  });

  it('hides what a symlink names, and does not follow one that a run could have bent', async () => {
    mkdirSync(join(root, 'real'));
    writeFileSync(join(root, 'real/secret'), 'x');
    symlinkSync(join(root, 'real'), join(root, 'link'));
    const state = join(root, 'home2/state');
    const bent = join(state, 'deep');
    const spec = makeSpec(owner, 'ask', { hide: [join(root, 'link')], statePaths: [state] });
    mkdirSync(join(root, 'victim'));
    own(root, owner);
    symlinkSync(join(root, 'victim'), bent);
    const wished = { ...spec, statePaths: [state, bent] };
    const { code } = await run(
      owner,
      view,
      wished,
      '! cat "$1" && ! touch "$2/x"',
      join(root, 'real/secret'),
      bent,
    );
    expect(code).toBe(0);
    expect(readdirSync(join(root, 'victim'))).toEqual([]);
  });

  it('is fed by a tail outside and writes to files that it cannot see', async () => {
    const spec = makeSpec(owner, 'ask');
    const dir = spec.runDir;
    writeFileSync(join(dir, 'in'), 'first\n');
    const feed = start(self, ['tail', '-c', '+1', '-f', join(dir, 'in')]);
    const out = openSync(join(dir, 'out'), 'a');
    const script = 'while read -r line; do echo "got $line"; done; exit 3';
    const child = start(owner, view.wrap(['sh', '-c', script], spec).argv, {
      stdio: [feed.stdout, out, 'inherit'],
    });
    await until('the first line', () => readFileSync(join(dir, 'out'), 'utf8') === 'got first\n');
    appendFileSync(join(dir, 'in'), 'second\n');
    await until('the second line', () => readFileSync(join(dir, 'out'), 'utf8').endsWith('got second\n'));
    feed.stdout?.destroy();
    feed.kill();
    expect((await once(child, 'close'))[0]).toBe(3);
  });

  it('shows its processes and their mark to the outside, and a signal to those inside reaches the program only', async () => {
    const spec = makeSpec(owner, 'act');
    const mark = `${root}/signal`;
    const script = 'trap "echo heard; exit 5" INT; echo ready; while :; do sleep 0.05; done';
    const child = start(owner, view.wrap(['sh', '-c', script], spec).argv, {
      env: { ...process.env, KHLONE_RUN: mark },
    });
    let out = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
    });
    await until('the program', () => out === 'ready\n');
    expect(isInside(child.pid ?? 0)).toBe(false);
    const inside = marked(mark).filter(isInside);
    expect(inside.length).toBeGreaterThan(0);
    for (const pid of inside) spawnSync('kill', ['-INT', String(pid)]);
    expect([(await once(child, 'close'))[0], out]).toEqual([5, 'ready\nheard\n']);
  });

  it.each(['the wrapper', 'whoever started it', 'the program itself'])(
    'ends everything inside when %s ends',
    async (who) => {
      const mark = `${root}/${who}`;
      const lasts = who === 'the program itself' ? 'read -r line' : 'sleep 1000';
      const background = `setsid sleep 1000 > /dev/null 2>&1 & echo ready; ${lasts}; exit 0`;
      const wrapped = view.wrap(['sh', '-c', background], makeSpec(owner, 'act')).argv;
      const runner = ['sh', '-c', '"$@"; exit "$?"', 'runner', ...wrapped];
      const child = start(owner, runner, { env: { ...process.env, KHLONE_RUN: mark } });
      await once(child.stdout ?? child, 'data');
      await until('the background process', () => marked(mark).filter(isInside).length >= 2);
      if (who === 'the program itself') child.stdin?.end();
      if (who === 'whoever started it') child.kill('SIGKILL');
      if (who === 'the wrapper') {
        const [wrapper] = marked(mark).filter((pid) => pid !== child.pid);
        if (wrapper) process.kill(wrapper, 'SIGKILL');
      }
      await until('all to end', () => marked(mark).length === 0);
    },
  );

  it('starts when a socket that it would hide has gone, and hides the one that is left', async () => {
    const paths = ['gone.sock', 'left.sock'].map((name) => join(root, name));
    const servers = await Promise.all(paths.map(listen));
    const [gone, left] = servers;
    const spec = makeSpec(owner, 'ask');
    const { argv } = view.wrap(['sh', '-c', '[ ! -e "$1" ] && [ -c "$2" ]', 'sh', ...paths], spec);
    gone?.close();
    await once(gone ?? process, 'close');
    expect((await once(start(owner, argv), 'close'))[0]).toBe(0);
    left?.close();
  });

  it('takes no program for its mounts from a folder of the search path', async () => {
    const fake = join(root, 'fake');
    mkdirSync(fake);
    for (const name of ['mount', 'setpriv', 'unshare', 'mkdir'])
      writeFileSync(join(fake, name), `#!/bin/sh\n: > '${root}/fooled'\n`, { mode: 0o755 });
    const spec = makeSpec(owner, 'ask');
    const child = start(owner, view.wrap(['true'], spec).argv, {
      env: { PATH: `${fake}:${process.env.PATH}` },
    });
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(existsSync(join(root, 'fooled'))).toBe(false);
  });

  it('says which folder is missing instead of starting anything', () => {
    const spec = makeSpec(owner, 'ask');
    rmSync(spec.worktree, { recursive: true });
    expect(() => view.wrap(['true'], spec)).toThrow(/worktree of the run is not a folder/);
  });
});

/** Disks and folders that are mounted while a run is alive must not be a place where it may write. */
describe.runIf(allowed && self.uid === 0).each(cases.filter(({ title }) => !title.startsWith('bwrap as')))(
  '$title, while another file system is mounted',
  ({ owner, view }) => {
    it('does not let it in', async () => {
      const spec = makeSpec(owner, 'ask');
      const late = join(root, 'late');
      mkdirSync(late);
      const script = 'echo ready; read -r line; if touch "$1/x"; then echo written; fi 2> /dev/null';
      const wrapped = asOwner(owner, view.wrap(['sh', '-c', script, 'sh', late], spec).argv);
      const shared = [
        'unshare',
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        'mount --make-rshared / && "$@"',
        'sh',
      ];
      const child = start(self, [...shared, ...wrapped]);
      let out = '';
      child.stdout?.on('data', (chunk) => {
        out += chunk;
      });
      await until('the run', () => out === 'ready\n');
      const mounted = spawnSync('nsenter', [
        '-t',
        String(child.pid),
        '-m',
        'mount',
        '-t',
        'tmpfs',
        '-o',
        'mode=777',
        'x',
        late,
      ]);
      expect(mounted.status).toBe(0);
      child.stdin?.end('go\n');
      await once(child, 'close');
      expect(out).toBe('ready\n');
    });
  },
);
