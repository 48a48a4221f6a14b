import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { keysWord, sizeWord, takenWord, WINDOW_BYTES } from '../../src/protocol/pty-proxy.ts';
import {
  createProxyMaker,
  endProxy,
  forgetProxy,
  type ProxyMaker,
} from '../../src/server/attach/pty-proxy.ts';
import { until } from '../fixtures/khlone.ts';

/** The program between sshd's channel and a tmux client, with shells in the place of the client. */

const VIEWER = 'v-0123456789abcdef';
const FIRST = { of: '0123456789abcdef', bytes: 7 };
const env = { PATH: process.env.PATH ?? '', TERM: 'xterm' };

let dir: string;
let maker: ProxyMaker;
const started: ChildProcessWithoutNullStreams[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-proxy-'));
  maker = createProxyMaker(dir, env);
});
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const start = ([program = '', ...words]: readonly string[]) => {
  const child = spawn(program, words, { env, stdio: 'pipe' });
  started.push(child);
  let drawn = '';
  let said = '';
  child.stdout.on('data', (bytes: Buffer) => {
    drawn += bytes.toString('latin1');
  });
  child.stderr.on('data', (bytes: Buffer) => {
    said += bytes;
  });
  child.stdin.on('error', () => {});
  return {
    child,
    drawn: () => drawn,
    said: () => said,
    ended: once(child, 'close').then(([code]) => code as number | null),
    type: (text: string) => child.stdin.write(keysWord(Buffer.byteLength(text), Buffer.from(text))),
    sees: (pattern: RegExp) => until(`${pattern} in ${JSON.stringify(drawn)}`, () => pattern.test(drawn)),
  };
};

const admit = (script: string, typed = FIRST) =>
  maker.admit({
    ...{ viewer: VIEWER, typed, size: { columns: 80, rows: 24 } },
    client: ['/bin/sh', '-c', script],
  });

const run = async (script: string) => {
  const { nonce, argv } = admit(script);
  const proxy = start(argv);
  await proxy.sees(new RegExp(`^khlone-wire/1 ${nonce}\n`));
  return proxy;
};

test('a program has a terminal of the size that was asked for, and of each later one', async () => {
  const proxy = await run('stty size; echo ready; while read -r word; do stty size; done');
  await proxy.sees(/24 80\r\nready/);
  proxy.child.stdin.write(
    Buffer.concat([sizeWord({ columns: 301, rows: 77 }), keysWord(1, Buffer.from('\r'))]),
  );
  await proxy.sees(/77 301/);
  // Cut anywhere, as a channel may.
  for (const byte of Buffer.concat([sizeWord({ columns: 90, rows: 20 }), keysWord(1, Buffer.from('\r'))])) {
    proxy.child.stdin.write(Buffer.from([byte]));
    await delay(2);
  }
  await proxy.sees(/20 90/);
  expect(proxy.said()).toBe('');
});

test('the end of the program is an end; the end of the channel hangs the program up', async () => {
  const proxy = await run('read -r word; echo "last $word"');
  proxy.type('words\r');
  expect(await proxy.ended).toBe(0);
  expect(proxy.drawn()).toContain('last words');

  const left = await run(`trap 'echo hung-up >${dir}/hup' HUP; echo ready; while :; do sleep 0.05; done`);
  await left.sees(/ready/);
  left.child.stdin.end();
  expect(await left.ended).toBe(4);
  await until('the program heard of it', () => readdirSync(dir).includes('hup'));
});

test('what was typed is counted, whatever became of it on the way, and kept nowhere', async () => {
  const proxy = await run('stty raw; echo ready; exec cat >/dev/null');
  await proxy.sees(/ready/);
  proxy.type('secret-word');
  // An answer of the terminal that is not for the program counts as typed, too.
  proxy.child.stdin.write(keysWord(9, Buffer.alloc(0)));
  await until('both are counted', () => noteOf().typed === 27);
  for (const name of readdirSync(dir)) {
    expect(readFileSync(join(dir, name), 'latin1')).not.toContain('secret-word');
    expect(statSync(join(dir, name)).mode & 0o077).toBe(0);
  }
  expect(await endProxy(dir, VIEWER)).toEqual({ of: FIRST.of, bytes: 27 });
  expect(await proxy.ended).toBe(4);
  // It tells that once: whoever has the viewer next counts by itself.
  expect(await endProxy(dir, VIEWER)).toBeUndefined();
  expect(readdirSync(dir)).toEqual(['pty-proxy.pl']);
});

const noteOf = (): { pid: number; typed: number; begun: number } => {
  const name = readdirSync(dir).find((one) => one.startsWith(`${VIEWER}.proxy.`)) ?? '';
  const bytes = readFileSync(join(dir, name));
  const [pid, typed, begun] = [16, 32, 40].map((at) => Number(bytes.readBigUInt64LE(at)));
  return { pid: pid ?? 0, typed: typed ?? 0, begun: begun ?? 0 };
};

test('one that died between two keys is believed, and one that died while it typed is not', async () => {
  const proxy = await run('stty raw; echo ready; exec cat >/dev/null');
  await proxy.sees(/ready/);
  proxy.type('abc');
  await until('it is counted', () => noteOf().typed === 10);
  proxy.child.kill('SIGKILL');
  await proxy.ended;
  expect(await endProxy(dir, VIEWER)).toEqual({ of: FIRST.of, bytes: 10 });

  // The terminal is full, so the rest waits to be typed.
  const full = await run('stty raw; echo ready; exec sleep 60');
  await full.sees(/ready/);
  for (let n = 0; n < 8; n += 1) full.type('x'.repeat(32_000));
  await until('some of it waits', () => noteOf().begun > noteOf().typed);
  full.child.kill('SIGKILL');
  await full.ended;
  expect(await endProxy(dir, VIEWER)).toBeUndefined();
});

test('what came last is read before the terminal goes, or counts as unknown', async () => {
  const proxy = await run(`stty raw; echo ready; sleep 0.2; head -c 5 >${dir}/read; exec sleep 60`);
  await proxy.sees(/ready/);
  proxy.type('whole');
  proxy.child.stdin.end();
  expect(await proxy.ended).toBe(4);
  await until('it was read', () => readFileSync(join(dir, 'read'), 'latin1') === 'whole');
  expect(await endProxy(dir, VIEWER)).toEqual({ of: FIRST.of, bytes: 12 });

  const deaf = await run('stty raw; echo ready; exec sleep 60');
  await deaf.sees(/ready/);
  deaf.type('unread');
  deaf.child.stdin.end();
  expect(await deaf.ended).toBe(4);
  expect(await endProxy(dir, VIEWER)).toBeUndefined();
});

test('it draws no more than a window ahead of its reader, and types meanwhile', async () => {
  const proxy = await run(
    `stty raw -echo; yes 0123456789 | head -c 300000 & read -r word; touch ${dir}/typed; wait`,
  );
  const magic = proxy.drawn().indexOf('\n') + 1;
  await until('a window is drawn', () => proxy.drawn().length - magic === WINDOW_BYTES);
  proxy.type('word\n');
  await until('the word arrived', () => readdirSync(dir).includes('typed'));
  expect(proxy.drawn().length - magic).toBe(WINDOW_BYTES);
  let taken = 0;
  while (taken < 300_000) {
    const all = proxy.drawn().length - magic;
    if (all === taken) {
      await delay(1);
      continue;
    }
    proxy.child.stdin.write(takenWord(all - taken));
    taken = all;
  }
  expect(await proxy.ended).toBe(0);
});

test('one that starts late takes no place', async () => {
  const late = admit(`touch ${dir}/late`);
  expect(await endProxy(dir, VIEWER)).toEqual(FIRST);
  expect(await start(late.argv).ended).toBe(3);

  const replaced = admit(`touch ${dir}/late`);
  const next = await run('echo ready; exec cat');
  await next.sees(/ready/);
  expect(await start(replaced.argv).ended).toBe(3);
  next.type('still\r');
  await next.sees(/still/);
  expect(readdirSync(dir)).not.toContain('late');
  forgetProxy(dir, VIEWER);
  expect(readdirSync(dir)).not.toContain(`${VIEWER}.proxy`);
});

test('a host without perl says so each time, and so does one where nothing can be noted', async () => {
  const { check } = createProxyMaker(dir, { PATH: dir });
  for (let n = 0; n < 2; n += 1) await expect(check()).rejects.toMatchObject({ code: 'no-pty' });
  await maker.check();
  rmSync(dir, { recursive: true });
  writeFileSync(dir, 'no folder');
  expect(() => admit('true')).toThrow(expect.objectContaining({ code: 'no-pty' }));
  rmSync(dir);
  expect(admit('true').argv[0]).toBe('perl');
});
