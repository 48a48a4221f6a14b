import { createHash } from 'node:crypto';
import { KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller } from './caller.ts';
import { writeMail } from './shell-state.ts';

/** Which conversation a task joins: the flag, the variable, the shell's own, the worktree's current, a new one. */

const NAME = /^[A-Za-z0-9._-]{1,64}$/;
const SHELL = /^[A-Za-z0-9._-]{1,64}$/;

const checked = (name: string, from: string): string => {
  if (NAME.test(name)) return name;
  throw new KhloneError(
    'usage',
    `${from} is not a session name: letters, digits, ".", "_", "-", at most 64`,
    'such as auth or review-2',
  );
};

const NEW_SESSION_DIGITS = 10;

/** A new session's name comes from the caller's nonce: a command that is repeated joins the session it made. */
export const mintSession = (nonce: string): string =>
  `s-${createHash('sha256').update(nonce).digest('hex').slice(0, NEW_SESSION_DIGITS)}`;

export type SessionChoice = { session: string; explicit: boolean };

export const sessionFor = (
  app: App,
  caller: Caller,
  binding: Binding,
  flag: string | undefined,
): SessionChoice => {
  if (flag !== undefined) return { session: checked(flag, '--session'), explicit: true };
  const given = caller.env.KHLONE_SESSION;
  if (given) return { session: checked(given, 'KHLONE_SESSION'), explicit: true };
  const shell = caller.env.KHLONE_SHELL;
  const own = shell ? app.shellSessions.get(shell) : undefined;
  return { session: own ?? binding.session ?? mintSession(caller.nonce), explicit: false };
};

/** Remembers the session for the shell that dispatched and for the worktree. A session given by name is not adopted. */
export const keepSession = (app: App, caller: Caller, binding: Binding, choice: SessionChoice): void => {
  app.bindings.put({ ...binding, session: choice.session, usedMs: Date.now() });
  const shell = caller.env.KHLONE_SHELL;
  if (choice.explicit || !shell || !SHELL.test(shell)) return;
  app.shellSessions.set(shell, choice.session);
  writeMail(app.home.root, shell, choice.session, binding.zone);
};
