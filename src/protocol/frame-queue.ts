/** Frames that wait to be written, first in, first out, under a bound in bytes. */
export type FrameQueue = {
  /** False, and nothing taken, where the queue would hold more than `mostBytes`. */
  push(frame: Buffer, mostBytes: number): boolean;
  shift(): Buffer | undefined;
};

export const createFrameQueue = (): FrameQueue => {
  const frames: Buffer[] = [];
  let head = 0;
  let bytes = 0;
  return {
    push: (frame, mostBytes) => {
      if (bytes + frame.length > mostBytes) return false;
      frames.push(frame);
      bytes += frame.length;
      return true;
    },
    shift: () => {
      const frame = frames[head];
      if (!frame) return undefined;
      bytes -= frame.length;
      head++;
      // Taken frames are let go in batches: Array.shift would move the rest each time.
      if (head === frames.length || head === 1024) {
        frames.splice(0, head);
        head = 0;
      }
      return frame;
    },
  };
};
