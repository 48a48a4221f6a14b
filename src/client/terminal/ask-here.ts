import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { KhloneError } from '../../protocol/error.ts';

/** A question at the terminal of this very process. A secret is read without echo, which is put back whatever happens. */

const ECHO_DEADLINE_MS = 2_000;
/** Signals that would end the process where it stands; the others abort the command. */
const ENDING = ['SIGQUIT', 'SIGHUP'] as const;

const echo = (word: 'echo' | '-echo'): void => {
  spawnSync('stty', [word], { stdio: ['inherit', 'ignore', 'ignore'], timeout: ECHO_DEADLINE_MS });
};

/** The line that was typed. Throws `interrupted` at the end of the input and when `signal` aborts. */
export const askHere = (text: string, secret: boolean, signal: AbortSignal): Promise<string> =>
  new Promise((resolve, reject) => {
    const input = createInterface({ input: process.stdin, terminal: false });
    const settle = (then: () => void): void => {
      signal.removeEventListener('abort', onAbort);
      for (const name of ENDING) process.off(name, onAbort);
      input.removeAllListeners('close');
      input.close();
      if (secret) echo('echo');
      if (secret) process.stderr.write('\n');
      then();
    };
    const refuse = (): void => reject(new KhloneError('interrupted', 'no answer'));
    const onAbort = (): void => settle(refuse);
    signal.addEventListener('abort', onAbort);
    for (const name of ENDING) process.on(name, onAbort);
    if (secret) echo('-echo');
    process.stderr.write(text);
    input.once('line', (line) => settle(() => resolve(line)));
    input.once('close', () => settle(refuse));
    if (signal.aborted) onAbort();
  });
