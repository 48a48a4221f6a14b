import { readFile } from 'node:fs/promises';

/** Which process made a file, so that another one can tell later whether it still runs. */

/** The 22nd field of /proc/PID/stat, after the name in brackets, is the start time in ticks since the boot. */
const START_FIELD = 19;

let own: string | undefined;

/** Tells two processes of one number apart; empty where the system does not say. */
export const startOf = async (pid: number): Promise<string> => {
  if (pid === process.pid && own !== undefined) return own;
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const start = text.slice(text.lastIndexOf(')') + 2).split(' ')[START_FIELD] ?? '';
  if (pid === process.pid) own = start;
  return start;
};

/** Whether this very process runs; `start` is `-` where it is not known. In doubt it does. */
export const stillRuns = async (pid: string, start: string): Promise<boolean> => {
  if (!/^[1-9]\d*$/u.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const now = await startOf(Number(pid));
  return start === '-' || now === '' || start === now;
};
