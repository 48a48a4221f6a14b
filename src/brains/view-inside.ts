import { readFileSync } from 'node:fs';

/** The numbers of a process, ours first, then one for each nested namespace of process numbers (NSpid, proc(5)). */
const depthOf = (pid: number | 'self'): number => {
  try {
    const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^NSpid:\s*(.*)$/m)?.[1] ?? '';
    return line.trim().split(/\s+/).filter(Boolean).length;
  } catch {
    return 0;
  }
};

/**
 * Whether a process runs inside a view (or another namespace below ours). Signals meant for a brain go to these only:
 * the wrapper around a view dies of SIGINT and SIGTERM, and takes the brain with it before it can finish anything.
 */
export const isInside = (pid: number): boolean => depthOf(pid) > depthOf('self');
