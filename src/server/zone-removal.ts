import type { ZoneRow } from './store/zones.ts';

/** Removing a zone removes only what khlone made: never the person's own worktree. */
export const removeZone =
  (_serverDir: string) =>
  async (_zone: ZoneRow, _force: boolean): Promise<string | undefined> =>
    undefined;
