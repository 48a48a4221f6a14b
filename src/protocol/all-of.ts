/** Waits until all of these have ended, also where one of them fails: nothing goes on behind whoever is told of it. */
export const allOf = async (...work: readonly (Promise<unknown> | undefined)[]): Promise<void> => {
  const failed = (await Promise.allSettled(work)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
};
