import { KhloneError } from '../../protocol/error.ts';

/** How a command ends by a signal: at first it hears out what becomes of its work, and then it is gone. */

/** The hub says that at once; one that does not is not waited for. */
const LAST_WORDS_MS = 1_000;

export type Leaving = {
  /** Aborts with the first signal. */
  leave: AbortSignal;
  /** Aborts with the second, or when the hub's last words did not come. */
  gone: AbortSignal;
};

export const leaveAtSignals = (): Leaving => {
  const [leave, gone] = [new AbortController(), new AbortController()];
  const interrupt = (): void => {
    if (leave.signal.aborted) gone.abort();
    else setTimeout(() => gone.abort(), LAST_WORDS_MS).unref();
    leave.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupt);
  return { leave: leave.signal, gone: gone.signal };
};

/** Rejects when a signal ends the command: a full pipe, an open input or a slow start must not hold it. */
export const unlessLeaving = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> => {
  const left = Promise.withResolvers<never>();
  const onAbort = (): void => left.reject(new KhloneError('interrupted', 'interrupted'));
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  work.catch(() => {});
  return Promise.race([work, left.promise]).finally(() => signal.removeEventListener('abort', onAbort));
};
