import { KhloneError } from '../protocol/error.ts';

/** Waiting beside a caller: what it waits for goes on when the caller leaves, or when its patience ends. */

/** The outcome of the work, or nothing after so many ms. Throws `interrupted` when the caller leaves. */
export const soonest = async <T>(
  work: Promise<T>,
  ms: number,
  signal: AbortSignal,
): Promise<T | undefined> => {
  const patience = Promise.withResolvers<undefined>();
  const timer = setTimeout(patience.resolve, Math.max(0, ms), undefined);
  const onAbort = (): void => patience.reject(new KhloneError('interrupted', 'interrupted'));
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  work.catch(() => {});
  try {
    return await Promise.race([work, patience.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
};
