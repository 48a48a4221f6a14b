import type { Typed } from '../../protocol/attach.ts';

/**
 * Keys on their way to a viewer: what is typed faster than it travels waits here, up to a bound. What was sent is kept
 * for a while, too: after a break of the way the viewer tells how far it came, and the rest goes again. So a line is
 * never half typed, and nothing of it twice.
 */

/** Bytes that may wait. A paste beyond it is refused: the sign to leave must be read whatever the other side does. */
const WAITING_MAX_BYTES = 1024 * 1024;
/** Bytes that were sent and are kept. A break that swallowed more loses all of them. */
const SENT_MAX_BYTES = 64 * 1024;

export type TypedKeys = {
  /** False: no room, nothing of it was taken. */
  push(bytes: Uint8Array): boolean;
  /** The keys for one opening; those of the one before end. */
  open(): {
    body: AsyncIterable<Uint8Array>;
    /** The viewer is there, and so much was typed into it; undefined where it does not tell. Until then no key goes. */
    begin(typed: Typed | undefined): void;
    end(): void;
  };
};

export const createTypedKeys = (): TypedKeys => {
  /** Sent and waiting, in order; the first byte is the `first`th of all. */
  let kept = Buffer.alloc(0);
  let first = 0;
  /** So many of all were sent. */
  let sent = 0;
  let count: { of: string; shift: number } | undefined;
  let turn = 0;
  let wake = (): void => {};

  const end = (): number => first + kept.length;
  const trim = (): void => {
    const from = Math.max(first, sent - SENT_MAX_BYTES);
    kept = kept.subarray(from - first);
    first = from;
  };
  /** Where the viewer came to, if it is the same and what it lacks is still here. */
  const resumedAt = (typed: Typed | undefined): number | undefined => {
    if (!typed || typed.of !== count?.of) return undefined;
    const at = typed.bytes + count.shift;
    return at >= first && at <= sent ? at : undefined;
  };

  async function* bodyOf(mine: number, begun: Promise<void>): AsyncGenerator<Uint8Array> {
    await begun;
    while (turn === mine) {
      if (sent < end()) {
        const all = kept.subarray(sent - first);
        sent = end();
        yield all;
        trim();
      } else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }

  return {
    push: (bytes) => {
      if (end() - sent + bytes.length > WAITING_MAX_BYTES) return false;
      kept = Buffer.concat([kept, bytes]);
      wake();
      return true;
    },
    open: () => {
      turn += 1;
      const mine = turn;
      wake();
      const begun = Promise.withResolvers<void>();
      const over = (): void => {
        if (turn === mine) turn += 1;
        begun.resolve();
        wake();
      };
      return {
        body: bodyOf(mine, begun.promise),
        begin: (typed) => {
          // Of a viewer that does not know, nobody can say which keys it had: none is typed a second time.
          const isFirst = count === undefined && first === 0 && sent === 0;
          sent = resumedAt(typed) ?? (isFirst ? 0 : end());
          count = typed && { of: typed.of, shift: sent - typed.bytes };
          begun.resolve();
        },
        end: over,
      };
    },
  };
};
