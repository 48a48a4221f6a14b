import { UNREAD_PIECES } from './limits.ts';

/** Bytes that wait for a reader, in the pieces they came in. */
export type Pieces = { push(piece: Buffer): void; shift(): Buffer | undefined; clear(): void };

/** Small pieces are joined as they pile up: a writer of single bytes must not cost an object each. */
export const createPieces = (): Pieces => {
  let pieces: Buffer[] = [];
  // The first so many were joined already; joining them again would cost the square of their bytes.
  let joined = 0;
  return {
    push: (piece) => {
      pieces.push(piece);
      if (pieces.length - joined < UNREAD_PIECES) return;
      pieces.push(Buffer.concat(pieces.splice(joined)));
      joined++;
    },
    shift: () => {
      if (joined > 0) joined--;
      return pieces.shift();
    },
    clear: () => {
      pieces = [];
      joined = 0;
    },
  };
};
