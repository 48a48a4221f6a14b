/**
 * Buffers to read files into, used again and again: bytes that are read without end would else be garbage without end,
 * outside of the heap, of which V8 lets 32 MB and more pile up before it looks.
 */

export type ReadBuffers = {
  /** A buffer of the pool's size, with old bytes in it. */
  borrow(): Buffer;
  /** Whoever calls this looks at the buffer no more. One of another size is left to the collector. */
  giveBack(buffer: Buffer): void;
};

/** `most`: how many idle buffers are kept. */
export const createReadBuffers = (bytes: number, most: number): ReadBuffers => {
  const idle: Buffer[] = [];
  return {
    borrow: () => idle.pop() ?? Buffer.allocUnsafeSlow(bytes),
    giveBack: (buffer) => {
      if (buffer.length === bytes && idle.length < most) idle.push(buffer);
    },
  };
};
