import type { Sight } from '../../protocol/attach.ts';

/** What the hub tells a caller who is to look into a zone: all that its own terminal's program needs for it. */
export type AttachOrder = {
  zone: string;
  /** `local`, or the host as the person wrote it. */
  host: string;
  sight: Sight;
  /** How the person calls what they look at: mechanic.1, or a shell of @feat/auth. Safe to print. */
  name: string;
  /** Whether the terminal shows letters beyond ASCII. */
  utf8: boolean;
  /** Whether a line says at the end how it ended. */
  quiet: boolean;
};
