import { KhloneError } from '../../protocol/error.ts';

/** A fault of SQLite or of the file system in our language of errors. */
export const storageError = (error: unknown): KhloneError => {
  if (error instanceof KhloneError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const full = /disk is full|ENOSPC|disk I\/O/i.test(message);
  return full
    ? new KhloneError('disk-low', 'the disk is full: nothing was accepted', 'free some space, then try again')
    : new KhloneError('internal', `the state could not be written: ${message}`);
};
