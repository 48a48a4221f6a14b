import { KhloneError } from './error.ts';
import { CREDIT_STEP_BYTES, WINDOW_BYTES } from './limits.ts';
import { createPieces } from './pieces.ts';

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
  /** Leave early, as the reader's return() does; with an error, readers see it. */
  leave(error?: KhloneError): void;
};

type Step = IteratorResult<Uint8Array>;
type Waiter = Pick<PromiseWithResolvers<Step>, 'resolve' | 'reject'>;

/** `open`: more may come; `ended`: all came; `left`: nobody reads; an error: it broke. */
type State = 'open' | 'ended' | 'left' | KhloneError;

const END: Step = { done: true, value: undefined };

/** A body that can be iterated once. */
const onceReadable = (next: () => Promise<Step>, leave: () => void): Body => {
  let taken = false;
  const iterator: AsyncIterator<Uint8Array> = {
    next,
    return: async () => {
      leave();
      return END;
    },
  };
  return {
    [Symbol.asyncIterator]: () => {
      if (taken) throw new KhloneError('internal', 'a body can be read only once');
      taken = true;
      return iterator;
    },
  };
};

/**
 * An inlet holds at most the window of its class. `grant` is told when bytes were read (in steps, so that credit
 * frames stay rare), `left` once, when the reader leaves before the end.
 */
export const createInlet = (klass: Klass, grant: (bytes: number) => void, left: () => void): Inlet => {
  const pieces = createPieces();
  const waiters: Waiter[] = [];
  let aheadBytes = 0;
  let ungrantedBytes = 0;
  let state: State = 'open';

  const settle = (to: State): void => {
    state = to;
    if (to !== 'ended') pieces.clear();
    for (const waiter of waiters.splice(0)) {
      if (to instanceof KhloneError) waiter.reject(to);
      else waiter.resolve(END);
    }
  };

  const granted = (piece: Buffer): Step => {
    ungrantedBytes += piece.length;
    if (state === 'open' && ungrantedBytes >= CREDIT_STEP_BYTES) {
      grant(ungrantedBytes);
      aheadBytes -= ungrantedBytes;
      ungrantedBytes = 0;
    }
    return { done: false, value: piece };
  };

  const next = async (): Promise<Step> => {
    const piece = pieces.shift();
    if (piece) return granted(piece);
    if (state instanceof KhloneError) throw state;
    if (state !== 'open') return END;
    return new Promise((resolve, reject) => waiters.push({ resolve, reject }));
  };

  const leave = (error?: KhloneError): void => {
    const early = state === 'open';
    if (early || state === 'ended') settle(error ?? 'left');
    if (early) left();
  };

  return {
    body: onceReadable(next, () => leave()),
    push: (bytes) => {
      if (state !== 'open') return true;
      aheadBytes += bytes.length;
      if (aheadBytes > WINDOW_BYTES[klass]) return false;
      const waiter = waiters.shift();
      if (waiter) waiter.resolve(granted(bytes));
      else pieces.push(bytes);
      return true;
    },
    end: () => {
      if (state === 'open') settle('ended');
    },
    fail: (error) => {
      if (state === 'open') settle(error);
    },
    leave,
  };
};
