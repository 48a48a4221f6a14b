/** A deadline for one stage of a connection, which stands still while a person is asked something. */
export type StageDeadline = {
  /** Runs `work` with the clock stopped. */
  hold<T>(work: () => Promise<T>): Promise<T>;
  /** Begins the next stage with a fresh limit. */
  restart(limitMs: number): void;
  end(): void;
};

/** Calls `onLate` once when a stage lasts longer than its limit. */
export const createStageDeadline = (limitMs: number, onLate: (limitMs: number) => void): StageDeadline => {
  let limit = limitMs;
  let leftMs = limitMs;
  let sinceMs = 0;
  let holds = 0;
  let over = false;
  let timer: NodeJS.Timeout | undefined;

  const run = () => {
    if (over || holds > 0) return;
    sinceMs = performance.now();
    timer = setTimeout(() => {
      over = true;
      onLate(limit);
    }, leftMs);
  };
  const stop = () => {
    if (timer === undefined) return;
    clearTimeout(timer);
    timer = undefined;
    leftMs = Math.max(0, leftMs - (performance.now() - sinceMs));
  };
  run();

  return {
    hold: async (work) => {
      stop();
      holds++;
      try {
        return await work();
      } finally {
        holds--;
        run();
      }
    },
    restart: (nextMs) => {
      stop();
      limit = nextMs;
      leftMs = nextMs;
      run();
    },
    end: () => {
      over = true;
      stop();
    },
  };
};

/** `work`, or a rejection with `late()` after `limitMs`. */
export const withDeadline = <T>(work: Promise<T>, limitMs: number, late: () => Error): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), limitMs);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
};
