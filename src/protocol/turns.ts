/**
 * Work on one thing follows other work on it, whatever became of that. Work may give its answer before it is over: what
 * is left of it belongs to its turn all the same, and its failure then is told to nobody.
 */
export const createTurns = () => {
  const last = new Map<string, Promise<unknown>>();
  return <T>(name: string, work: (answer: (value: T) => void) => Promise<T>): Promise<T> => {
    const answered = Promise.withResolvers<T>();
    const run = (): Promise<T> => work(answered.resolve);
    const turn = (last.get(name) ?? Promise.resolve()).then(run, run);
    const settled = turn.then(answered.resolve, answered.reject).finally(() => {
      if (last.get(name) === settled) last.delete(name);
    });
    last.set(name, settled);
    return answered.promise;
  };
};
