// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are lines for a shell.
import type { Shell } from './fake-khlone.ts';

/** What a person may type, under which options, and what the shell's session is then. */

/** Prints the session the shell holds, as `@s1@`, or `@unset@`. */
export const SHOW = `printf '@%s@\\n' "\${KHLONE_SESSION-unset}"`;

const HOOKS_OFF = 'PROMPT_COMMAND=; precmd_functions=()';

type Case = {
  readonly says: string;
  readonly lines: readonly string[];
  /** What was printed between at signs, in order. */
  readonly shows: readonly string[];
  readonly code?: number;
  readonly only?: Shell['name'];
};

export const CASES: readonly Case[] = [
  { says: 'an act sets the session', lines: ['khlone act a', SHOW], shows: ['s1'] },
  { says: 'it is there on the same line', lines: [`khlone act a && ${SHOW}`], shows: ['s1'] },
  {
    says: 'it is exported',
    lines: ['khlone act a', `env | sed -n 's/^KHLONE_SESSION=\\(.*\\)/@\\1@/p'`],
    shows: ['s1'],
  },
  { says: 'a second act keeps it', lines: ['khlone act a', 'khlone act b', SHOW], shows: ['s1'] },
  { says: 'a switch changes it', lines: ['khlone act a', 'khlone switch zz.9', SHOW], shows: ['zz.9'] },
  { says: 'an end unsets it', lines: ['khlone act a', 'khlone end', SHOW], shows: ['unset'] },
  {
    says: 'after an end, an act begins another',
    lines: ['khlone act a', 'khlone end', 'khlone act b', SHOW],
    shows: ['s2'],
  },
  {
    says: 'an act in a pipe reaches the shell at the next prompt',
    lines: ['khlone act a | cat', SHOW],
    shows: ['s1'],
  },
  {
    says: 'an act in $( ) reaches the shell at the next prompt',
    lines: ['x=$(khlone act a)', SHOW, `printf '@%s@' "$x"`],
    shows: ['s1', 'acted in none'],
  },
  {
    says: 'many acts in one line land in one session',
    lines: ['x=$(khlone act a); y=$(khlone act b); khlone act c', SHOW, 'echo "@$(cat "$KHLONE_HOME/s")@"'],
    shows: ['s1', '1'],
  },
  {
    says: 'an act in the background reaches the shell at a later prompt',
    lines: ['khlone act a & wait', SHOW],
    shows: ['s1'],
  },
  {
    says: 'a one-shot session is used once and not kept',
    lines: ['khlone act a', 'KHLONE_SESSION=def khlone act b', SHOW],
    shows: ['s1'],
  },
  {
    says: 'a one-shot session does not swallow what a pipe left',
    lines: ['khlone act a | cat; KHLONE_SESSION=def khlone act b', SHOW],
    shows: ['s1'],
  },
  {
    says: 'a session the person exported stays',
    lines: ['khlone act a', 'export KHLONE_SESSION=mine', 'khlone act b', SHOW],
    shows: ['mine'],
  },
  {
    says: 'a child shell inherits the session but not the mailbox',
    lines: [
      'khlone act a',
      'old=$__khlone_shell',
      'SELF -c \'. PLUGIN; test "$__khlone_shell" != "$1" && khlone switch s9; printf "@%s@" "$KHLONE_SESSION"\' x "$old"',
      SHOW,
    ],
    shows: ['s9', 's1'],
  },
  { says: 'the exit status is the command’s', lines: ['khlone fail 42', 'printf "@%s@" $?'], shows: ['42'] },
  {
    says: 'a false status takes the else of && and ||',
    lines: ['khlone fail 3 && echo @and@ || echo @or@', 'khlone fail 0 && echo @and@ || echo @or@'],
    shows: ['or', 'and'],
  },
  {
    says: 'a function without its helpers still works',
    lines: [
      HOOKS_OFF,
      'unset -f __khlone_read; unset __khlone_shell',
      'set -u',
      'khlone fail 7',
      'printf "@%s@" $?',
    ],
    shows: ['7'],
  },
  {
    says: 'functions without their variables still work',
    lines: [
      HOOKS_OFF,
      'unset __khlone_shell __khlone_note __khlone_seen __khlone_at',
      'set -u',
      'khlone fail 7',
      'printf "@%s@" $?',
    ],
    shows: ['7'],
  },
  { says: 'set -u does no harm', lines: ['set -u', 'khlone act a', SHOW], shows: ['s1'] },
  {
    says: 'set -e stops with the status',
    lines: ['set -e', 'khlone fail 42', 'echo @alive@'],
    shows: [],
    code: 42,
  },
  {
    says: 'set -e goes on past a guarded failure',
    lines: ['set -e', 'khlone fail 42 || echo @guarded@', 'khlone act a', SHOW],
    shows: ['guarded', 's1'],
  },
  {
    says: 'set -e outlives a prompt after a negated command',
    lines: ['set -e', '! true', 'echo @alive@'],
    shows: ['alive'],
  },
  {
    says: 'noclobber does no harm',
    lines: ['set -C', 'khlone act a', 'khlone switch b', SHOW],
    shows: ['b'],
  },
  { says: 'noglob does no harm', lines: ['set -f', 'khlone act a', SHOW], shows: ['s1'] },
  { says: 'an odd IFS does no harm', lines: [`IFS='s1\t-'`, 'khlone act a', SHOW], shows: ['s1'] },
  {
    says: 'an alias of that name gives way',
    lines: ['alias khlone=false', '. PLUGIN', 'khlone act a', SHOW],
    shows: ['s1'],
  },
  {
    says: 'allexport does not hand the mailbox down',
    lines: ['set -a', '. PLUGIN', 'khlone act a', SHOW, 'env | grep -c ^__khlone_shell= | sed "s/.*/@&@/"'],
    shows: ['s1', '0'],
  },
  {
    says: 'sourcing twice hooks once',
    lines: ['. PLUGIN', 'printf "@%s@" "${precmd_functions[*]-}${PROMPT_COMMAND-}"'],
    shows: ['__khlone_precmd'],
  },
  { says: 'the status survives the hook', lines: ['(exit 9)', 'printf "@%s@" $?'], shows: ['9'] },
  {
    says: 'a hook after ours sees the status',
    lines: [`PROMPT_COMMAND="$PROMPT_COMMAND"$'\\n''printf "@%s@" $?'`, '(exit 9)', 'PROMPT_COMMAND='],
    shows: ['0', '9'],
    only: 'bash',
  },
  {
    says: 'an array of hooks is kept',
    lines: [
      'PROMPT_COMMAND=("echo @one@" "echo @two@")',
      '. PLUGIN',
      'PROMPT_COMMAND=("${PROMPT_COMMAND[2]}")',
      'khlone act a | cat',
      SHOW,
    ],
    shows: ['one', 'two', 'one', 'two', 's1'],
    only: 'bash',
  },
  {
    says: 'posix mode does no harm',
    lines: ['set -o posix', '. PLUGIN', 'khlone act a', SHOW],
    shows: ['s1'],
    only: 'bash',
  },
  {
    says: 'a readonly variable with a common name does no harm',
    lines: ['readonly line=1 key=2 dir=3 i=4', 'khlone act a', SHOW],
    shows: ['s1'],
    only: 'bash',
  },
  ...[
    'ksh_arrays',
    'sh_word_split',
    'warn_create_global',
    'err_return',
    'glob_subst',
    'no_unset',
    'extended_glob',
  ].map(
    (option): Case => ({
      says: `${option} does no harm`,
      lines: [
        `setopt ${option}`,
        '. PLUGIN',
        'khlone act a',
        SHOW,
        'khlone switch x',
        SHOW,
        'khlone end || :',
        SHOW,
      ],
      shows: ['s1', 'x', 'unset'],
      only: 'zsh',
    }),
  ),
  {
    says: 'emulate sh does no harm',
    lines: ['emulate sh', '. PLUGIN', 'khlone act a', SHOW],
    shows: ['s1'],
    only: 'zsh',
  },
  {
    says: 'a global alias gives way',
    lines: ['alias -g khlone=false', '. PLUGIN', 'khlone act a', SHOW],
    shows: ['s1'],
    only: 'zsh',
  },
  {
    says: 'the user’s options hold while the command runs, and after',
    lines: ['setopt ksh_arrays', 'khlone act a', 'a=(x y); printf "@%s@" "${a[0]}"'],
    shows: ['x'],
    only: 'zsh',
  },
  {
    says: 'unloading leaves nothing',
    lines: [
      'khlone_plugin_unload',
      'printf "@%s@" "${precmd_functions-}${(k)functions[(I)*khlone*]}${(k)parameters[(I)__khlone*]}"',
    ],
    shows: [''],
    only: 'zsh',
  },
];

/** Values no shell may take over, let alone run. */
export const HOSTILE = [
  '9000\\t$(touch pwned)\\n',
  '9001\\t`touch pwned`\\n',
  '9002\\ta b;touch pwned\\n',
  '9003\\t../../etc\\n',
  `9004\\t${'x'.repeat(65)}\\n`,
  '9005\\té\\n',
  '9006\\t\\033]0;x\\007\\n',
  'a[$(touch pwned)]\\ts7\\n',
  '9007\\n',
  '9008\\t\\n',
  's7\\n',
  '\\n\\n',
  '%%n\\t%%n\\n',
];
