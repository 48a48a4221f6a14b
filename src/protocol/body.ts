import { KhloneError } from './error.ts';
import { CREDIT_STEP_BYTES, UNREAD_PIECES, WINDOW_BYTES } from './limits.ts';

/** Bytes that follow a call or an answer. Read once, to its end, or left early by return(). */
export type Body = AsyncIterable<Uint8Array>;

/** Interactive bytes go before bulk bytes, whoever came first. */
export type Klass = 'interactive' | 'bulk';

/** The reading end of a body that the other side writes. */
export type Inlet = {
  body: Body;
  /** Bytes arrived. False: the writer went past its window, which ends the connection. */
  push(bytes: Buffer): boolean;
  /** The body is complete: what lies unread may still be read. */
  end(): void;
  /** The body broke before its end: what lies unread is dropped, readers see the error. */
  fail(error: KhloneError): void;
  /** Leave early, as the reader's return() does. */
  stop(): void;
  /** Leave early with an error for the reader. */
  abandon(error: KhloneError): void;
};

type Waiter = { resolve(step: IteratorResult<Uint8Array>): void; reject(error: KhloneError): void };

/**
 * An inlet holds at most the window of its class. `grant` is told when bytes were read (in steps, so that credit
 * frames stay rare), `left` once, when the reader leaves before the end.
 */
export const createInlet = (klass: Klass, grant: (bytes: number) => void, left: () => void): Inlet => {
  const unread: Buffer[] = [];
  const waiters: Waiter[] = [];
  let unreadBytes = 0;
  let joined = 0;
  let ungrantedBytes = 0;
  let taken = false;
  let state: 'open' | 'ended' | 'left' | KhloneError = 'open';

  const drop = (): void => {
    unread.length = 0;
    joined = 0;
  };

  const wakeAll = (): void => {
    for (const waiter of waiters.splice(0)) {
      if (state instanceof KhloneError) waiter.reject(state);
      else waiter.resolve({ done: true, value: undefined });
    }
  };

  /** Credit counts bytes the reader took, plus what it has not: the writer is never ahead by more than the window. */
  const read = (bytes: number): void => {
    unreadBytes -= bytes;
    ungrantedBytes += bytes;
    if (ungrantedBytes < CREDIT_STEP_BYTES || state !== 'open') return;
    grant(ungrantedBytes);
    ungrantedBytes = 0;
  };

  const stop = (): void => {
    if (state === 'open') {
      state = 'left';
      left();
    } else if (state === 'ended') state = 'left';
    drop();
    wakeAll();
  };

  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    if (state instanceof KhloneError) throw state;
    const piece = unread.shift();
    if (piece) {
      if (joined > 0) joined--;
      read(piece.length);
      return { done: false, value: piece };
    }
    if (state !== 'open') return { done: true, value: undefined };
    return new Promise((resolve, reject) => waiters.push({ resolve, reject }));
  };

  const iterator: AsyncIterator<Uint8Array> = {
    next,
    return: async () => {
      stop();
      return { done: true, value: undefined };
    },
  };

  const fail = (error: KhloneError): void => {
    if (state !== 'open') return;
    state = error;
    drop();
    wakeAll();
  };

  return {
    body: {
      [Symbol.asyncIterator]: () => {
        if (taken) throw new KhloneError('internal', 'a body can be read only once');
        taken = true;
        return iterator;
      },
    },
    push: (bytes) => {
      if (state !== 'open') return true;
      unreadBytes += bytes.length;
      if (unreadBytes + ungrantedBytes > WINDOW_BYTES[klass]) return false;
      const waiter = waiters.shift();
      if (waiter) {
        read(bytes.length);
        waiter.resolve({ done: false, value: bytes });
        return true;
      }
      unread.push(bytes);
      if (unread.length - joined >= UNREAD_PIECES) unread.push(Buffer.concat(unread.splice(joined++)));
      return true;
    },
    end: () => {
      if (state !== 'open') return;
      state = 'ended';
      wakeAll();
    },
    fail,
    stop,
    abandon: (error) => {
      if (state !== 'open') return;
      fail(error);
      left();
    },
  };
};
