/** Keys on their way to a viewer: what is typed faster than it travels waits here, up to a bound. */

/** Bytes that may wait. A paste beyond it is refused: the sign to leave must be read whatever the other side does. */
const WAITING_MAX_BYTES = 1024 * 1024;

export type TypedKeys = {
  /** False: no room, nothing of it was taken. */
  push(bytes: Uint8Array): boolean;
  end(): void;
  body: AsyncIterable<Uint8Array>;
};

export const createTypedKeys = (): TypedKeys => {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let over = false;
  let wake = (): void => {};

  async function* body(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (waiting.length > 0) {
        const all = Buffer.concat(waiting);
        waiting = [];
        waitingBytes = 0;
        yield all;
      } else if (over) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  }

  return {
    push: (bytes) => {
      if (over || waitingBytes + bytes.length > WAITING_MAX_BYTES) return false;
      waiting.push(bytes);
      waitingBytes += bytes.length;
      wake();
      return true;
    },
    end: () => {
      over = true;
      wake();
    },
    body: body(),
  };
};
