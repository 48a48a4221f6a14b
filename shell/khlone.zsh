# khlone for zsh: keeps KHLONE_SESSION in the shell that dispatched, and shows the zone in the prompt.
#
#   source /path/to/khlone/shell/khlone.zsh        # in ~/.zshrc
#
# The segment, as `khlone:@feat/auth ●1 ◌2`: ● active, ◌ queued, ↓ patches to pull, ≠ conflicts, ⚠ needs you;
# `?` while the zone's state is not known, `down` while its machine is. Letters (a q p c w) without UTF-8.
# It is put into RPROMPT as long as nobody else uses RPROMPT. To place it yourself:
#
#   KHLONE_PROMPT_AUTO=0                           # leave RPROMPT alone
#   setopt prompt_subst
#   PROMPT='%~ ${KHLONE_PROMPT:+$KHLONE_PROMPT }%# '
#
#   khlone_prompt                                  # brings $KHLONE_PROMPT up to date now, for your own precmd
#   KHLONE_PROMPT_EXPORT=1                         # exports $KHLONE_PROMPT, for starship and oh-my-posh
#
# In $KHLONE_PROMPT every % is doubled, and the characters prompts act on ($ ` \ !) are shown as _.
# No process is started at load or at a prompt, and nothing that is read is ever evaluated or sourced. Only
# ${KHLONE_HOME:-~/.khlone}/shell is read, never the repository, which may be a stranger's.

# An alias would hide the function, and a global one would break its definition.
unalias khlone 2>/dev/null || :

# Runs in the options of the user, because they hold for the command too: nothing here but "$@" and plain words.
# The note is read before and after, so that only what this very call brought is adopted here; what a pipe or
# `$( )` left behind waits for the prompt, where no one-shot `KHLONE_SESSION=x khlone …` can swallow it.
# Agent CLIs copy functions into other shells one by one, so the helpers may be absent.
function khlone {
  local __khlone_rc=0 __khlone_before=
  if (( ${+functions[__khlone_read_note]} )); then
    __khlone_read_note
    __khlone_before=$__khlone_note
  fi
  KHLONE_SHELL="${__khlone_shell-}" command khlone "$@" || __khlone_rc=$?
  if (( ${+functions[__khlone_read_note]} )); then
    __khlone_read_note
    [[ "$__khlone_note" == "$__khlone_before" ]] || __khlone_adopt
  fi
  return $__khlone_rc
}

# Leaves the first line of this shell's mailbox in __khlone_note.
function __khlone_read_note {
  emulate -L zsh
  setopt no_err_exit no_err_return
  local box=${KHLONE_HOME:-${HOME-}/.khlone}/shell/mail/${__khlone_shell-}
  typeset -g __khlone_note=
  [[ -f $box && -r $box ]] && __khlone_note=$(<$box)
  __khlone_note=${__khlone_note%%$'\n'*}
  return 0
}

# Takes over the session of a note not seen yet: `generation TAB session-or-dash …`. Anything else is ignored.
function __khlone_adopt {
  emulate -L zsh
  setopt no_err_exit no_err_return
  local generation=${__khlone_note%%$'\t'*} session=
  [[ $generation == "${__khlone_seen-}" || $__khlone_note != *$'\t'* ]] && return 0
  session=${${__khlone_note#*$'\t'}%%$'\t'*}
  [[ $generation == <-> ]] && (( $#generation <= 20 )) || return 0
  typeset -g __khlone_seen=$generation
  if [[ $session == - ]]; then
    unset KHLONE_SESSION
  elif [[ $session == [A-Za-z0-9_]* && $session != *[^A-Za-z0-9._-]* ]] && (( $#session <= 64 )); then
    typeset -gx KHLONE_SESSION=$session
  fi
  return 0
}

# Sets __khlone_key to the zone of $PWD, or to nothing. Rows come innermost first, so the first match is right.
function __khlone_locate {
  local here=${PWD:P} row root key
  typeset -g __khlone_key=
  for row in "${(@f)$(<$1)}"; do
    root=${row%%$'\t'*} key=${row#*$'\t'}
    [[ $root == /* ]] || continue
    [[ $PWD/ == "${root%/}"/* || $here/ == "${root%/}"/* ]] || continue
    [[ $key == [A-Za-z0-9_]* && $key != *[^A-Za-z0-9._-]* ]] && __khlone_key=$key
    return 0
  done
}

# Sets __khlone_segment from the ten fields of a zone's line ($1); $2 is 1 when the line is too old to be believed.
function __khlone_format {
  local -a field=("${(@ps:\t:)1}") mark=(a q p c w)
  local label=$field[2] text= i
  typeset -g __khlone_segment=
  (( $#field >= 10 )) || return 0
  for i in {5..9}; do [[ $field[i] == <-> ]] || return 0; done
  [[ ${LC_ALL:-${LC_CTYPE:-${LANG-}}} == *[Uu][Tt][Ff]* ]] && mark=(● ◌ ↓ ≠ ⚠)
  case $field[4]$2 in
    online0) [[ $field[5] == 0 ]] || text=" $mark[1]$field[5]" ;;
    down?) text=' down' ;;
    *) text=" ?${field[5]#0}" ;;
  esac
  for i in {2..5}; do [[ $field[i+4] == 0 ]] || text+=" $mark[i]$field[i+4]"; done
  label=${${label//[[:cntrl:]]/}//[\$\`\\!]/_}
  __khlone_segment="khlone:${label//\%/%%}$text"
}

# Brings KHLONE_PROMPT up to date. Looks for the zone again only when the directory or the index changed, and
# formats only when the line changed or grew stale (the hub vouches for a living line every 30 seconds).
function khlone_prompt {
  emulate -L zsh
  setopt no_err_exit no_err_return
  local dir=${KHLONE_HOME:-${HOME-}/.khlone}/shell head= line= stale=0 epoch now='%D{%s}'
  [[ -f $dir/index && -r $dir/index ]] && read -r head <$dir/index
  if [[ $dir:$PWD:$head != "${__khlone_place-}" ]]; then
    typeset -g __khlone_place=$dir:$PWD:$head __khlone_key=
    [[ -n $head ]] && __khlone_locate $dir/index
  fi
  if [[ -n $__khlone_key && -f $dir/zones/$__khlone_key && -r $dir/zones/$__khlone_key ]]; then
    line=${"$(<$dir/zones/$__khlone_key)"%%$'\n'*}
    epoch=${${(@ps:\t:)line}[10]-}
    [[ $epoch == <-> ]] && (( ${(%)now} - epoch <= 90 )) || stale=1
  fi
  [[ $stale$line == "${__khlone_shown-}" ]] && return 0
  typeset -g __khlone_shown=$stale$line
  __khlone_format "$line" $stale
  typeset -g KHLONE_PROMPT=$__khlone_segment
  [[ ${KHLONE_PROMPT_EXPORT-} == 1 ]] && typeset -gx KHLONE_PROMPT
  return 0
}

# RPROMPT is ours while it is empty or what we put there last; a theme that sets its own wins.
function __khlone_show {
  emulate -L zsh
  setopt no_err_exit no_err_return
  local want=$KHLONE_PROMPT
  [[ ${RPROMPT-} == "${__khlone_rprompt-}" ]] || return 0
  [[ ${KHLONE_PROMPT_AUTO-} == 0 || ${PROMPT-} == *KHLONE_PROMPT* ]] && want=
  [[ $want == "${RPROMPT-}" ]] || typeset -g RPROMPT=$want
  typeset -g __khlone_rprompt=$want
}

# zsh itself keeps $? and $pipestatus over its hooks.
function __khlone_precmd {
  __khlone_read_note
  __khlone_adopt
  khlone_prompt
  __khlone_show
}

# For plugin managers that can unload.
function khlone_plugin_unload {
  emulate -L zsh
  precmd_functions=(${precmd_functions:#__khlone_precmd})
  [[ -n ${__khlone_rprompt-} && ${RPROMPT-} == "$__khlone_rprompt" ]] && RPROMPT=
  unset KHLONE_PROMPT
  unset -m '__khlone_*'
  unfunction -m khlone khlone_prompt khlone_plugin_unload '__khlone_*'
}

# The shell's id is made once per process and never exported: a child shell inherits the session, not the mailbox.
function __khlone_install {
  emulate -L zsh
  setopt no_err_exit no_err_return
  local now='%D{%s}'
  [[ ${__khlone_shell-} == $$-* ]] || typeset -g __khlone_shell=$$-${(%)now}-$RANDOM$RANDOM __khlone_seen=
  typeset -g +x __khlone_shell __khlone_seen __khlone_shown= __khlone_place= __khlone_key= __khlone_segment=
  [[ -o interactive ]] || return 0
  typeset -ga precmd_functions
  (( ${precmd_functions[(I)__khlone_precmd]} )) || precmd_functions+=(__khlone_precmd)
  typeset -g +x KHLONE_PROMPT=
}
__khlone_install
