import { KhloneError } from '../protocol/error.ts';

/** A full disk in words, with what found no room there; anything else as it was thrown. */
export const tellFull = (thrown: unknown, place: string): unknown => {
  const { code } = thrown as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return thrown;
  return new KhloneError('disk-low', `no space left for ${place}`, 'free some space, then try again');
};
