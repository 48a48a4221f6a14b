import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createSh } from '../../src/brains/sh.ts';
import { BrainEvent, type TurnEnd } from '../../src/protocol/event.ts';

const sh = createSh({ entry: [join(import.meta.dirname, '../fixtures/sh-entry.ts')] });

type Run = {
  child: ChildProcess;
  lines: string[];
  say: (uuid: string, text: string) => void;
  until: (holds: (lines: string[]) => boolean) => Promise<void>;
  exit: Promise<number | null>;
};

let folder: string;
let runs: Run[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'khlone-sh-test-'));
});
afterEach(() => {
  for (const run of runs) run.child.kill('SIGKILL');
  runs = [];
  rmSync(folder, { recursive: true, force: true });
});

const begin = (): Run => {
  const spec = { mode: 'act', cwd: folder, env: {}, newSessionId: '', trusted: true, isRoot: true } as const;
  const { argv, env } = sh.start({ ...spec, tmpDir: folder });
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { cwd: folder, env: { ...process.env, ...env }, stdio: 'pipe' });
  const lines: string[] = [];
  let rest = '';
  let wake = (): void => {};
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    const parts = (rest + piece).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
    wake();
  });
  const until = (holds: (all: string[]) => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not seen within 15 s: ${lines.slice(-5)}`)), 15_000);
      wake = () => {
        if (!holds(lines)) return;
        clearTimeout(timer);
        resolve();
      };
      wake();
    });
  const run: Run = {
    child,
    lines,
    say: (uuid, text) => void child.stdin.write(sh.say({ uuid, text, mode: 'act' })),
    until,
    exit: new Promise((resolve) => child.once('close', (code) => resolve(code))),
  };
  runs.push(run);
  return run;
};

const eventsOf = (run: Run, uuid?: string): BrainEvent[] => run.lines.flatMap(sh.reader(uuid));
const endsOf = (run: Run, uuid?: string): TurnEnd[] =>
  eventsOf(run, uuid).filter((event) => event.type === 'turn.end');
const hasEnds = (count: number, run: Run) => (): boolean => endsOf(run).length >= count;

const finished = async (...scripts: string[]): Promise<Run> => {
  const run = begin();
  scripts.forEach((text, index) => {
    run.say(`u${index}`, text);
  });
  run.child.stdin?.end();
  expect(await run.exit).toBe(0);
  return run;
};

describe('the brain sh', () => {
  test('the answer is what the script prints, and stderr is told apart', async () => {
    const run = await finished('echo hello; echo oops >&2; echo wörld');
    expect(endsOf(run)).toEqual([{ type: 'turn.end', reason: 'done', text: 'hello\nwörld' }]);
    const events = eventsOf(run, 'u0');
    expect(events[0]).toEqual({
      type: 'tool.start',
      id: 'u0',
      name: 'sh',
      input: 'echo hello; echo oops >&2; echo wörld',
    });
    expect(events).toContainEqual({ type: 'warn', text: 'oops\n' });
    expect(events.at(-2)).toMatchObject({ type: 'tool.end', id: 'u0', ok: true });
    expect(eventsOf(run, 'other')).toEqual([]);
  });

  test('an exit code other than 0 is an error that names it', async () => {
    const run = await finished('echo part; exit 7', 'kill -SEGV $$', '-x; echo minus');
    expect(endsOf(run).map((end) => [end.reason, end.text, end.fault?.message])).toEqual([
      ['error', 'part', 'exit code 7'],
      ['error', '', 'ended by SIGSEGV'],
      ['done', 'minus', undefined],
    ]);
  });

  test('the start line is in the output before the script has any effect', async () => {
    const out = join(folder, 'out.jsonl');
    const entry = join(import.meta.dirname, '../fixtures/sh-entry.ts');
    const child = spawn('sh', ['-c', `exec "$0" "$1" brain-sh >"$2"`, process.execPath, entry, out], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    child.stdin.end(sh.say({ uuid: 'u', text: `cat '${out}' >'${folder}/seen'`, mode: 'act' }));
    await new Promise((resolve) => child.once('close', resolve));
    const seen = readFileSync(join(folder, 'seen'), 'utf8').trim().split('\n').flatMap(sh.reader('u'));
    expect(seen).toMatchObject([{ type: 'tool.start', id: 'u' }]);
  });

  test('a script of 2 MB runs, reads nothing from the input, and leaves no file', async () => {
    const run = await finished(`cat; echo ${'x'.repeat(2_000_000)} | wc -c`, 'echo next');
    expect(endsOf(run).map((end) => end.text)).toEqual(['2000001', 'next']);
    const { readdirSync } = await import('node:fs');
    expect(readdirSync(folder)).toEqual([]);
  });

  test('of an answer beyond its bound the tail is kept and the rest is counted', async () => {
    const run = await finished('head -c 9000000 /dev/zero | tr "\\0" a; echo; echo END');
    const text = endsOf(run)[0]?.text ?? '';
    // What a task keeps of an answer: the tail would lose its end otherwise.
    expect(text.length).toBeLessThanOrEqual(4 * 1024 * 1024);
    expect(text).toMatch(/^\[\d+ characters left out here\]\na/);
    expect(text.endsWith('a\nEND')).toBe(true);
    const streamed = eventsOf(run).reduce((sum, e) => sum + (e.type === 'text' ? e.text.length : 0), 0);
    expect(streamed).toBe(9_000_005);
  });

  test('a prompt with a NUL byte is refused before anything runs, other control bytes pass', async () => {
    const run = await finished(`touch '${join(tmpdir(), 'never')}'\0`, "printf '%s' '\x1b[31m\x07'");
    expect(eventsOf(run, 'u0')).toMatchObject([{ type: 'turn.end', reason: 'error' }]);
    expect(endsOf(run, 'u0')[0]?.fault?.message).toContain('NUL');
    expect(endsOf(run, 'u1')[0]?.text).toBe('\x1b[31m\x07');
  });

  test('the same uuid runs once', async () => {
    const run = begin();
    run.say('same', 'echo x >>count');
    run.say('same', 'echo x >>count');
    run.say('other', 'cat count');
    run.child.stdin?.end();
    await run.exit;
    expect(endsOf(run, 'other')[0]?.text).toBe('x');
    expect(endsOf(run)).toHaveLength(2);
  });

  test('an interrupt ends the whole group and the next turn runs', async () => {
    const run = begin();
    run.say('u0', `sh -c 'sleep 60; touch late' & echo $!; wait`);
    await run.until((lines) => lines.some((line) => line.includes('"stdout"')));
    const pid = Number(eventsOf(run).flatMap((event) => (event.type === 'text' ? [event.text] : []))[0]);
    const stop = sh.interrupt();
    if ('bytes' in stop) run.child.stdin?.write(stop.bytes);
    await run.until(hasEnds(1, run));
    expect(endsOf(run)[0]?.reason).toBe('interrupted');
    expect(existsSync(`/proc/${pid}/cwd`)).toBe(false);
    run.say('u1', 'echo after');
    run.child.stdin?.end();
    await run.exit;
    expect(endsOf(run).at(-1)).toMatchObject({ reason: 'done', text: 'after' });
  });

  test('a script that ignores the polite signal is killed', async () => {
    const run = begin();
    run.say('u0', `trap '' TERM; echo ready; while :; do sleep 0.1; done`);
    await run.until((lines) => lines.some((line) => line.includes('ready')));
    const stop = sh.interrupt();
    if ('bytes' in stop) run.child.stdin?.write(stop.bytes);
    await run.until(hasEnds(1, run));
    expect(endsOf(run)[0]?.reason).toBe('interrupted');
  });

  test('a background child that keeps the pipes open does not keep the turn open', async () => {
    const run = begin();
    run.say('u0', 'sleep 60 & echo $!');
    await run.until(hasEnds(1, run));
    const pid = Number(endsOf(run)[0]?.text);
    process.kill(pid, 'SIGKILL');
    expect(endsOf(run)[0]?.reason).toBe('done');
  });

  test('a lost terminal does not end it', async () => {
    const run = begin();
    run.say('u0', 'kill -HUP $PPID; echo still here');
    run.child.stdin?.end();
    expect(await run.exit).toBe(0);
    expect(endsOf(run)[0]?.text).toBe('still here');
  });

  test('lines that are no message change nothing', async () => {
    const run = begin();
    run.child.stdin?.write(
      '\n{"type":"turn"}\n[1]\nnull\n{"type":"turn","uuid":3,"text":"exit 1"}\n\xff\xfe\n',
    );
    run.say('u0', 'echo ok');
    run.child.stdin?.end();
    expect(await run.exit).toBe(0);
    expect(endsOf(run)).toEqual([{ type: 'turn.end', reason: 'done', text: 'ok' }]);
  });

  test('its reader gives valid events for any line', () => {
    const kinds = fc.constantFrom('start', 'stdout', 'stderr', 'end', 'x');
    const line = fc.oneof(
      fc.string({ size: 'max', maxLength: 2_000, unit: 'binary' }),
      fc.json({ maxDepth: 2 }),
      fc
        .record({
          type: kinds,
          uuid: fc.json({ maxDepth: 2 }),
          text: fc.anything({ maxDepth: 2, size: 'small' }),
          ran: fc.boolean(),
        })
        .map((v) => {
          try {
            return JSON.stringify(v);
          } catch {
            return '{';
          }
        }),
    );
    fc.assert(
      fc.property(line, (text) => {
        for (const event of sh.reader()(text)) BrainEvent.parse(event);
      }),
    );
  });
});
