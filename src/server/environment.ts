import type { Environment } from './prepare.ts';

/** Whose environment a clone gets, and what of it never reaches one. */

/** khlone's own, the terminal's and the shell's bookkeeping: they describe the caller's window, not its world. */
const OWN =
  /^(KHLONE_.*|TMUX.*|STY|TERM|TERM_.*|TERMINFO.*|COLORTERM|COLUMNS|LINES|WINDOWID|VTE_.*|KITTY_.*|ITERM_.*|WEZTERM_.*|ALACRITTY_.*|PS[1-4]|PROMPT.*|RPROMPT|PWD|OLDPWD|SHLVL|_|SSH_(TTY|CLIENT|CONNECTION)|BASH_ENV|ENV)$/;

/** What ties git to one repository (`git rev-parse --local-env-vars`); a person's other GIT_ variables are theirs. */
const REPOSITORY =
  /^GIT_(DIR|WORK_TREE|COMMON_DIR|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|CONFIG|CONFIG_PARAMETERS|CONFIG_COUNT|GRAFT_FILE|IMPLICIT_WORK_TREE|INTERNAL_SUPER_PREFIX|NAMESPACE|NO_REPLACE_OBJECTS|PREFIX|REPLACE_REF_BASE|SHALLOW_FILE|QUARANTINE_PATH)$/;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The environment of a shell as a clone gets it. Names that no program can take are left out. */
export const forClone = (environment: Environment): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).filter(
      ([name, value]) =>
        NAME.test(name) && !OWN.test(name) && !REPOSITORY.test(name) && !value.includes('\0'),
    ),
  );

/** Where programs of a user lie that a shell without rc files (sshd starts such) does not look. */
const USER_BINS = ['.local/bin', 'bin', '.npm-global/bin', '.claude/local', '.bun/bin'];
const SYSTEM_BINS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** What a clone of an ssh zone starts from: this process's own, with the usual places on PATH. */
export const baseEnvironment = (env: NodeJS.ProcessEnv, home: string): Record<string, string> => {
  const own = Object.fromEntries(
    Object.entries(env).filter((e): e is [string, string] => e[1] !== undefined),
  );
  const path = [...(env.PATH ?? '').split(':'), ...USER_BINS.map((bin) => `${home}/${bin}`), ...SYSTEM_BINS];
  return { ...forClone(own), HOME: home, PATH: [...new Set(path.filter(Boolean))].join(':') };
};
