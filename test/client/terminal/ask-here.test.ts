import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** A question at a real terminal: whatever ends it, what the person types afterwards is seen again. */

const LIMIT_MS = 10_000;
const PROGRAM = `
  const { askHere } = await import(process.argv[1]);
  console.log('pid ' + process.pid);
  const leave = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => leave.abort());
  await askHere('word? ', true, leave.signal).then(
    (line) => console.log('heard ' + line),
    (error) => console.log(error.code),
  );
  process.stdin.destroy();
`;

/** What a terminal shows when these keys answer the question; at its end stands whether it echoes. */
const atTerminal = (keys: string, signal?: 'SIGTERM' | 'SIGHUP'): Promise<string> =>
  new Promise((resolve, reject) => {
    const argv = [process.execPath, '--input-type=module', '-e', PROGRAM];
    const ask = join(import.meta.dirname, '../../../src/client/terminal/ask-here.ts');
    const look = "stty -a | tr ' ;' '\\n\\n' | grep -x -e echo -e -echo";
    const line = `trap : INT QUIT; "$ARGV0" "$ARGV1" "$ARGV2" "$ARGV3" "$ASK"; ${look}`;
    const env = {
      ...process.env,
      ...Object.fromEntries(argv.map((word, i) => [`ARGV${i}`, word])),
      ...{ ASK: ask, NODE_NO_WARNINGS: '1', SHELL: '/bin/sh' },
    };
    const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: 'pipe' });
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    let shown = '';
    let answered = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
      if (answered || !shown.includes('word? ')) return;
      answered = true;
      if (signal === undefined) child.stdin.write(keys);
      else process.kill(Number(/pid (\d+)/.exec(shown)?.[1]), signal);
    });
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      resolve(shown.replaceAll('\r', '').replace(/^pid \d+\n/, ''));
    });
  });

test('a secret is heard and not shown', async () => {
  expect(await atTerminal('open sesame\n')).toBe('word? \nheard open sesame\necho\n');
});

test.each([
  ['Ctrl-C', '\u0003', undefined],
  ['Ctrl-\\', '\u001c', undefined],
  ['Ctrl-D', '\u0004', undefined],
  ['SIGTERM', '', 'SIGTERM'],
  ['SIGHUP', '', 'SIGHUP'],
] as const)('%s ends the question, and the terminal echoes again', async (_name, keys, signal) => {
  expect(await atTerminal(keys, signal)).toBe('word? \ninterrupted\necho\n');
});
