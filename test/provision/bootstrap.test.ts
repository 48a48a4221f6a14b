import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KhloneError } from '../../src/protocol/error.ts';
import { type Build, bootstrap, ownNode, readBuild } from '../../src/provision/bootstrap.ts';
import { type Exec, markedCommand, relayCommand } from '../../src/provision/remote-shell.ts';

/** The scripts run by a real login shell of this machine, in a home of their own; ssh itself is tested elsewhere. */

const BUNDLE = join(import.meta.dirname, '../fixtures/echo-server.mjs');
const NONCE = 'a'.repeat(32);

let home = '';
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'khlone-boot-'));
});
const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  rmSync(home, { recursive: true, force: true });
});

const versions = () => join(home, '.khlone/server/versions');

/** Gives the account a Node among its version managers. */
const installNode = () => {
  const bin = join(home, '.nvm/versions/node/v24/bin');
  mkdirSync(bin, { recursive: true });
  symlinkSync(process.execPath, join(bin, 'node'));
};

type Result = { code: number | null; stdout: string; stderr: string };

const run = (argv: string[], stdin?: Readable | Buffer): Promise<Result> =>
  new Promise((resolve, reject) => {
    const [program = '', ...words] = argv;
    const env = { HOME: home, PATH: '/usr/bin:/bin' };
    const child = spawn(program, words, { env, stdio: 'pipe' });
    const texts = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => {
      texts.stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      texts.stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, ...texts }));
    child.stdin.on('error', () => {});
    if (stdin instanceof Readable) stdin.pipe(child.stdin);
    else child.stdin.end(stdin);
  });

const shellExec =
  (shell: string[], spoil: (stdin: Buffer) => Buffer = (bytes) => bytes): Exec =>
  async (script, stdin) => {
    const body = Buffer.isBuffer(stdin) ? spoil(stdin) : stdin;
    const result = await run([...shell, markedCommand(script, NONCE)], body);
    expect(result.stdout).toContain(`khlone-wire/1 ${NONCE}\n`);
    return { ...result, stdout: result.stdout.slice(result.stdout.indexOf('\n') + 1) };
  };
const sh = ['/bin/sh', '-c'];

const setupWith = async (exec: Exec, build?: Build) =>
  bootstrap(exec, { host: 'zone', build: build ?? (await readBuild(BUNDLE, '0.1.0')), node: ownNode() });

const failure = async (work: Promise<unknown>): Promise<KhloneError> => {
  const error = await work.then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(KhloneError);
  return error as KhloneError;
};

describe('the set-up of a host', () => {
  for (const shell of ['bash', 'dash', 'zsh', 'fish', 'tcsh']) {
    const path = [`/bin/${shell}`, `/usr/bin/${shell}`].find((place) => existsSync(place));
    it.skipIf(path === undefined)(
      `runs under ${shell} as a login shell${path ? '' : ' (not installed here)'}`,
      async () => {
        installNode();
        const argv = [path ?? '', '-c'];
        const build = await readBuild(BUNDLE, '0.1.0');
        const absent = await run([...argv, relayCommand(build.name, NONCE)]);
        expect(absent.stdout).toBe(`khlone-wire/1 ${NONCE} absent\n`);
        await setupWith(shellExec(argv), build);
        const relay = await run([...argv, relayCommand(build.name, NONCE)], Buffer.from('echoed'));
        expect(relay.stdout).toBe(`khlone-wire/1 ${NONCE}\nechoed`);
      },
    );
  }

  it('leaves one whole build that only its owner can read, and nothing of the upload', async () => {
    installNode();
    const build = await readBuild(BUNDLE, '0.1.0');
    await setupWith(shellExec(sh), build);
    expect(readdirSync(versions())).toEqual([build.name]);
    expect(readFileSync(join(versions(), build.name, 'khlone-server.mjs'))).toEqual(build.bytes);
    expect(readlinkSync(join(versions(), build.name, 'node'))).toBe(process.execPath);
    expect(execFileSync('stat', ['-c', '%a', join(home, '.khlone')], { encoding: 'utf8' }).trim()).toBe(
      '700',
    );
  });

  it('repairs a broken build and may run twice at once', async () => {
    installNode();
    const build = await readBuild(BUNDLE, '0.1.0');
    await setupWith(shellExec(sh), build);
    writeFileSync(join(versions(), build.name, 'khlone-server.mjs'), 'half of it');
    await Promise.all([1, 2, 3, 4].map(() => setupWith(shellExec(sh), build)));
    expect(readdirSync(versions())).toEqual([build.name]);
    expect(readdirSync(join(versions(), build.name)).sort()).toEqual(['khlone-server.mjs', 'node']);
    expect(readFileSync(join(versions(), build.name, 'khlone-server.mjs'))).toEqual(build.bytes);
  });

  it('notices a short upload and a changed byte, and installs neither', async () => {
    installNode();
    for (const spoil of [
      (bytes: Buffer) => bytes.subarray(0, -7),
      (bytes: Buffer) => Buffer.from(bytes).fill('x', 5, 6),
    ]) {
      const error = await failure(setupWith(shellExec(sh, spoil)));
      expect(error).toMatchObject({ code: 'remote-setup', exit: 4 });
      expect(error.message).toContain('damaged');
      expect(readdirSync(versions())).toEqual([]);
    }
  });

  it.skipIf(process.getuid?.() !== 0)(
    'says that the disk is full, with what df says (needs root for a small tmpfs)',
    async () => {
      installNode();
      mkdirSync(versions(), { recursive: true });
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'khlone-small', versions()]);
      cleanups.push(() => execFileSync('umount', [versions()]));
      const bytes = Buffer.alloc(1 << 20, '/');
      const bundle = join(home, 'big.mjs');
      writeFileSync(bundle, bytes);
      const error = await failure(setupWith(shellExec(sh), await readBuild(bundle, '0.1.0')));
      expect(error.code).toBe('remote-setup');
      expect(error.message).toMatch(/disk is full \(df: khlone-small .*100%/);
      expect(readdirSync(versions())).toEqual([]);
    },
  );

  it('says why when the place for builds cannot be made', async () => {
    installNode();
    writeFileSync(join(home, '.khlone'), 'a file');
    const error = await failure(setupWith(shellExec(sh)));
    expect(error.code).toBe('remote-setup');
    expect(error.message).toMatch(/not a directory|file exists/i);
  });

  it('brings its own Node to a host of the same kind that has none new enough', async () => {
    const lines: string[] = [];
    const build = await readBuild(BUNDLE, '0.1.0');
    // Node installed for everybody on this machine may be new enough, so the candidates are cut to what PATH would give.
    const exec: Exec = (script, stdin) =>
      shellExec(sh)(script.replace(/for n in .*?; do/, 'for n in /bin/false; do'), stdin);
    await bootstrap(exec, { host: 'zone', build, node: ownNode(), progress: (line) => lines.push(line) });
    expect(lines.join()).toContain('sending ours');
    const node = readlinkSync(join(versions(), build.name, 'node'));
    expect(node).toBe(
      join(versions(), `node-${process.versions.node}-${process.platform}-${process.arch}`, 'node'),
    );
    expect(execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()).toBe(process.version);
  });

  it('refuses a Node that does not run there, and a host of another kind, with a way on', async () => {
    const build = await readBuild(BUNDLE, '0.1.0');
    const broken = join(home, 'node');
    writeFileSync(broken, '#!/no/such/program\n');
    chmodSync(broken, 0o755);
    const none: Exec = (script, stdin) =>
      shellExec(sh)(script.replace(/for n in .*?; do/, 'for n in /bin/false; do'), stdin);
    const node = { ...ownNode(), path: broken };
    const first = await failure(bootstrap(none, { host: 'zone', build, node }));
    expect(first).toMatchObject({ code: 'remote-setup' });
    expect(first.message).toContain('run the uploaded Node');

    const alpine: Exec = async () => ({
      code: 0,
      stdout: 'uname Linux x86_64\nlibc /lib/ld-musl-x86_64.so.1\n',
      stderr: '',
    });
    const second = await failure(bootstrap(alpine, { host: 'zone', build, node: ownNode() }));
    expect(second.message).toContain('musl');
    expect(second.hint).toContain('install Node 24');
  });

  it('keeps the newest three builds and those a process runs from', async () => {
    installNode();
    for (const [age, name] of [
      '0.0.1-aaaaaaaa',
      '0.0.2-bbbbbbbb',
      '0.0.3-cccccccc',
      '0.0.4-dddddddd',
      '0.0.5-eeeeeeee',
    ].entries()) {
      mkdirSync(join(versions(), name), { recursive: true });
      utimesSync(join(versions(), name), 1000 + age, 1000 + age);
    }
    mkdirSync(join(versions(), 'node-24.0.0-linux-x64'));
    mkdirSync(join(versions(), '.new-stale'));
    utimesSync(join(versions(), '.new-stale'), 1000, 1000);
    const used = join(versions(), '0.0.1-aaaaaaaa', 'khlone-server.mjs');
    writeFileSync(used, 'setInterval(() => {}, 1000); console.log("up")');
    const live = spawn(process.execPath, [used], { stdio: ['ignore', 'pipe', 'ignore'] });
    cleanups.push(() => live.kill());
    await new Promise((resolve) => live.stdout.once('data', resolve));
    utimesSync(join(versions(), '0.0.1-aaaaaaaa'), 1000, 1000);
    const build = await readBuild(BUNDLE, '0.1.0');
    await setupWith(shellExec(sh), build);
    expect(readdirSync(versions()).sort()).toEqual(
      ['0.0.1-aaaaaaaa', '0.0.4-dddddddd', '0.0.5-eeeeeeee', build.name, 'node-24.0.0-linux-x64'].sort(),
    );
  });

  it.each([true, false])(
    'holds no file open when the line breaks while Node is sent (gzip %s)',
    async (gzip) => {
      const copy = join(home, 'a-node');
      copyFileSync(process.execPath, copy);
      const open = (): number =>
        readdirSync('/proc/self/fd').filter((fd) => {
          try {
            return readlinkSync(`/proc/self/fd/${fd}`) === copy;
          } catch {
            return false;
          }
        }).length;
      const said = `uname Linux x86_64\nlibc glibc 2.36\n${gzip ? 'has gzip\n' : ''}`;
      const broken = new KhloneError('unreachable', 'the line broke');
      const exec: Exec = async (_script, stdin) => {
        if (stdin === undefined) return { code: 0, stdout: said, stderr: '' };
        await new Promise((resolve) => (stdin as Readable).once('readable', resolve));
        throw broken;
      };
      const node = { ...ownNode(), path: copy, platform: 'linux', arch: 'x64' };
      const build = await readBuild(BUNDLE, '0.1.0');
      await expect(bootstrap(exec, { host: 'zone', build, node })).rejects.toBe(broken);
      await expect.poll(open).toBe(0);
    },
  );
});
