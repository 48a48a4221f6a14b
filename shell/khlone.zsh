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

# An alias would hide the function; quoted, because a global one would take this word too.
unalias 'khlone' 2>/dev/null || :

# Runs in the options of the user, because they hold for the command too: nothing here but "$@" and plain words.
# The mailbox is read before and after, so that only what this very call brought is adopted here; what a pipe or
# `$( )` left behind waits for the prompt, where no one-shot `KHLONE_SESSION=x khlone …` can swallow it.
# Agent CLIs copy functions into other shells, so the helpers and variables may be absent.
function khlone {
  local __khlone_rc=0 __khlone_before=
  if (( ${+functions[__khlone_read]} )); then
    __khlone_read
    __khlone_before=$__khlone_note
  fi
  KHLONE_SHELL="${__khlone_shell-}" command khlone "$@" || __khlone_rc=$?
  if (( ${+functions[__khlone_read]} )); then
    __khlone_read
    [[ "$__khlone_note" == "$__khlone_before" ]] || __khlone_adopt
    __khlone_at=
  fi
  return $__khlone_rc
}

# Leaves what is in this shell's mailbox in __khlone_note.
function __khlone_read {
  emulate -L zsh -o no_err_exit -o no_err_return
  local box=${KHLONE_HOME:-${HOME-}/.khlone}/shell/mail/${__khlone_shell-}
  typeset -g __khlone_note=
  [[ -f $box && -r $box ]] && __khlone_note=$(<$box)
  return 0
}

# Takes over the session of a note: `generation TAB session-or-dash …`. Anything else is ignored.
function __khlone_adopt {
  emulate -L zsh -o no_err_exit -o no_err_return
  local -a field=("${(@ps:\t:)${__khlone_note%%$'\n'*}}")
  __khlone_seen=$__khlone_note
  [[ $field[1] == <-> ]] || return 0
  if [[ $field[2] == - ]]; then
    unset KHLONE_SESSION
  elif [[ $field[2] == [A-Za-z0-9_]* && $field[2] != *[^A-Za-z0-9._-]* ]] && (( $#field[2] <= 64 )); then
    typeset -gx KHLONE_SESSION=$field[2]
  fi
  return 0
}

# Sets __khlone_key to the zone of $PWD, or to nothing, by the rows of __khlone_index: innermost first, so the first
# match is right. $PWD is tried as it reads and with its symbolic links resolved.
function __khlone_locate {
  local here=${PWD:P} row root key
  __khlone_key=
  for row in "${(@f)__khlone_index}"; do
    root=${row%%$'\t'*} key=${row#*$'\t'}
    [[ $root == /* ]] || continue
    [[ $PWD/ == "${root%/}"/* || $here/ == "${root%/}"/* ]] || continue
    [[ $key == [A-Za-z0-9_]* && $key != *[^A-Za-z0-9._-]* ]] && __khlone_key=$key
    return 0
  done
}

# Sets KHLONE_PROMPT from a zone's line: version, label, mode, conn, active, queued, patches, conflicts, attention,
# epoch; and until when that holds. A line without these fields shows nothing, one that is too old shows `?`.
function __khlone_format {
  local -a field=("${(@ps:\t:)1}") mark=(a q p c w)
  local label=$field[2] text= stale=1 i
  typeset -g KHLONE_PROMPT= __khlone_until=9999999999
  if (( $#field >= 10 )); then
    for i in {5..9}; do [[ $field[i] == <-> ]] || return 0; done
    if [[ $field[10] == <-> ]] && (( EPOCHSECONDS - field[10] <= 90 )); then
      stale=0 __khlone_until=$(( field[10] + 90 ))
    fi
    [[ ${LC_ALL:-${LC_CTYPE:-${LANG-}}} == *[Uu][Tt][Ff]* ]] && mark=(● ◌ ↓ ≠ ⚠)
    case $field[4]$stale in
      online0) [[ $field[5] == 0 ]] || text=" $mark[1]$field[5]" ;;
      down?) text=' down' ;;
      *) text=" ?${field[5]#0}" ;;
    esac
    for i in {2..5}; do [[ $field[i+4] == 0 ]] || text+=" $mark[i]$field[i+4]"; done
    label=${${label//[[:cntrl:]]/}//[\$\`\\!]/_}
    KHLONE_PROMPT="khlone:${label//\%/%%}$text"
  fi
  [[ ${KHLONE_PROMPT_EXPORT-} == 1 ]] && typeset -gx KHLONE_PROMPT
  return 0
}

# RPROMPT is ours while it is empty or what we put there last; a theme that sets its own wins.
function __khlone_show {
  local want=$KHLONE_PROMPT
  [[ ${RPROMPT-} == "$__khlone_rprompt" ]] || return 0
  [[ ${KHLONE_PROMPT_AUTO-} == 0 || ${PROMPT-} == *KHLONE_PROMPT* ]] && want=
  [[ $want == "${RPROMPT-}" ]] || typeset -g RPROMPT=$want
  __khlone_rprompt=$want
}

# Before each prompt: adopt a session, then bring the segment up to date. One function, because a call costs as much
# as all the rest. The index is looked at on entering a directory, after each khlone command, and at every prompt
# outside of zones, where a zone may appear; the line is taken apart when it changed, and once more when it grew stale
# (the hub vouches for a living one every 30 seconds). zsh itself keeps $? and $pipestatus over its hooks.
function __khlone_precmd {
  emulate -L zsh -o no_err_exit -o no_err_return
  local dir=${KHLONE_HOME:-${HOME-}/.khlone}/shell index= line=
  if [[ -r $dir/mail/$__khlone_shell ]]; then
    __khlone_note=$(<$dir/mail/$__khlone_shell)
    [[ $__khlone_note == "$__khlone_seen" ]] || __khlone_adopt
  fi
  if [[ -n $__khlone_key && $dir:$PWD == "$__khlone_at" && -r $dir/zones/$__khlone_key ]]; then
    line=$(<$dir/zones/$__khlone_key)
  else
    [[ -r $dir/index ]] && index=$(<$dir/index)
    if [[ $dir:$PWD != "$__khlone_at" || $index != "$__khlone_index" ]]; then
      __khlone_at=$dir:$PWD __khlone_index=$index
      __khlone_locate
    fi
    [[ -n $__khlone_key && -r $dir/zones/$__khlone_key ]] && line=$(<$dir/zones/$__khlone_key)
  fi
  if [[ $line != "$__khlone_shown" ]] || (( EPOCHSECONDS > __khlone_until )); then
    __khlone_shown=$line
    __khlone_format "${line%%$'\n'*}"
  fi
  [[ ${RPROMPT-} == "$KHLONE_PROMPT" && ${KHLONE_PROMPT_AUTO-} != 0 ]] || __khlone_show
}

function khlone_prompt {
  __khlone_precmd
}

# For plugin managers that can unload.
function khlone_plugin_unload {
  emulate -L zsh
  precmd_functions=(${precmd_functions:#__khlone_precmd})
  [[ -n $__khlone_rprompt && ${RPROMPT-} == "$__khlone_rprompt" ]] && RPROMPT=
  unset -m KHLONE_PROMPT '__khlone_*'
  unfunction -m khlone khlone_prompt khlone_plugin_unload '__khlone_*'
}

# The shell's id is made once per process and never exported: a child shell inherits the session, not the mailbox.
function __khlone_install {
  emulate -L zsh -o no_err_exit -o no_err_return
  # The one thing of this module that is wanted, and the cheapest clock; a zsh without it never sees a line grow old.
  zmodload -F zsh/datetime p:EPOCHSECONDS 2>/dev/null
  [[ ${__khlone_shell-} == $$-* ]] ||
    typeset -g __khlone_shell=$$-${EPOCHSECONDS:-$SECONDS}-$RANDOM$RANDOM __khlone_seen= __khlone_rprompt=
  typeset -g +x __khlone_shell __khlone_seen __khlone_rprompt
  typeset -g +x __khlone_note= __khlone_at= __khlone_index= __khlone_key= __khlone_shown=0 __khlone_until=0 KHLONE_PROMPT=
  [[ -o interactive ]] || return 0
  typeset -ga precmd_functions
  (( ${precmd_functions[(I)__khlone_precmd]} )) || precmd_functions+=(__khlone_precmd)
}
__khlone_install
