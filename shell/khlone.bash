# shellcheck shell=bash
# khlone for bash (3.2 and later): keeps KHLONE_SESSION in the shell that dispatched, and shows the zone in the prompt.
#
#   source /path/to/khlone/shell/khlone.bash       # in ~/.bashrc, after what sets PS1 and PROMPT_COMMAND
#
# The segment, as `khlone:@feat/auth ●1 ◌2`: ● active, ◌ queued, ↓ patches to pull, ≠ conflicts, ⚠ needs you;
# `?` while the zone's state is not known, `down` while its machine is. Letters (a q p c w) without UTF-8.
# It is put in front of PS1 unless PS1 has it already. To place it yourself:
#
#   KHLONE_PROMPT_AUTO=0                           # leave PS1 alone
#   PS1='\w ${KHLONE_PROMPT:+$KHLONE_PROMPT }\$ '  # in single quotes: bash does not expand the value again
#
#   khlone_prompt                                  # brings $KHLONE_PROMPT up to date now, for your PROMPT_COMMAND
#   KHLONE_PROMPT_EXPORT=1                         # exports $KHLONE_PROMPT, for starship and oh-my-posh
#
# In $KHLONE_PROMPT the characters prompts act on ($ ` \ !) are shown as _, so double quotes do no harm either.
# No process is started at load or at a prompt, and nothing that is read is ever evaluated or sourced. Only
# ${KHLONE_HOME:-~/.khlone}/shell is read, never the repository, which may be a stranger's.

[ -n "${BASH_VERSION-}" ] || return 0

# An alias would hide the function.
unalias khlone 2>/dev/null || :

# The mailbox is read before and after, so that only what this very call brought is adopted here; what a pipe or
# `$( )` left behind waits for the prompt, where no one-shot `KHLONE_SESSION=x khlone …` can swallow it.
# Agent CLIs copy functions into other shells, so the helpers and variables may be absent. Before bash 4 `command`
# ends the shell under `set -e` although `||` guards it; env does not.
function khlone {
  local __khlone_rc=0 __khlone_before=
  if declare -F __khlone_read >/dev/null; then
    __khlone_read
    __khlone_before=$__khlone_note
  fi
  if [[ ${BASH_VERSINFO[0]} -lt 4 ]]; then
    KHLONE_SHELL="${__khlone_shell-}" env khlone "$@" || __khlone_rc=$?
  else
    KHLONE_SHELL="${__khlone_shell-}" command khlone "$@" || __khlone_rc=$?
  fi
  if declare -F __khlone_read >/dev/null; then
    __khlone_read
    [[ "$__khlone_note" == "$__khlone_before" ]] || __khlone_adopt
    __khlone_at=
  fi
  return "$__khlone_rc"
}

# Leaves the first line of this shell's mailbox in __khlone_note.
__khlone_read() {
  local k_box="${KHLONE_HOME:-${HOME-}/.khlone}/shell/mail/${__khlone_shell-}"
  __khlone_note=
  if [[ -f $k_box && -r $k_box ]]; then IFS= read -r __khlone_note <"$k_box" || :; fi
  return 0
}

# True for a name that may become a value or a file name. Spelled out, because ranges follow the locale.
__khlone_is_name() {
  local k_foreign='[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-]'
  # shellcheck disable=SC2053 # The right side is meant as a pattern.
  [[ -n $1 && $1 != [.-]* && $1 != *$k_foreign* && ${#1} -le 64 ]]
}

# True for digits only; must be asked before any arithmetic, which evaluates what it is given.
__khlone_is_count() { [[ -n $1 && $1 != *[!0123456789]* && ${#1} -le 20 ]]; }

# Takes over the session of a note: `generation TAB session-or-dash …`. Anything else is ignored.
__khlone_adopt() {
  local k_session="${__khlone_note#*$'\t'}"
  __khlone_seen=$__khlone_note
  __khlone_is_count "${__khlone_note%%$'\t'*}" || return 0
  k_session=${k_session%%$'\t'*}
  if [[ "$k_session" == - ]]; then
    unset KHLONE_SESSION
  elif __khlone_is_name "$k_session" && [[ "$k_session" != "$__khlone_note" ]]; then
    export KHLONE_SESSION="$k_session"
  fi
  return 0
}

# Sets __khlone_key to the zone of $PWD, or to nothing. Rows come innermost first, so the first match is right.
# $PWD is taken as it reads: only a process could resolve it, so the index names the symbolic links people use.
__khlone_locate() {
  local k_root k_key
  __khlone_key=
  while IFS=$'\t' read -r k_root k_key _; do
    [[ "$k_root" == /* && "$PWD/" == "${k_root%/}"/* ]] || continue
    if __khlone_is_name "$k_key"; then __khlone_key=$k_key; fi
    return 0
  done <"$1"
  return 0
}

# Sets KHLONE_PROMPT from a zone's file: version, label, mode, conn, active, queued, patches, conflicts, attention,
# epoch; and until when that holds. Without all these fields it shows nothing. Times are compared as words (ten
# digits until 2286), so that no value from outside is taken for arithmetic.
__khlone_format() {
  local k_label='' k_conn='' k_a='' k_q='' k_p='' k_c='' k_w='' k_epoch='' k_text='' k_i=1 k_odd='[$`!\\]'
  local -a k_mark
  KHLONE_PROMPT='' __khlone_until=9
  IFS=$'\t' read -r _ k_label _ k_conn k_a k_q k_p k_c k_w k_epoch _ <"$1" || :
  [[ -n "$k_epoch" ]] && __khlone_is_count "$k_a$k_q$k_p$k_c$k_w" && __khlone_is_count "$k_epoch" || return 0
  k_epoch=$((10#$k_epoch + 90))
  # shellcheck disable=SC2071 # As words.
  if [[ "${EPOCHSECONDS-}" > "$k_epoch" ]]; then k_conn=stale; else __khlone_until=$k_epoch; fi
  case "${LC_ALL:-${LC_CTYPE:-${LANG-}}}" in
    *[Uu][Tt][Ff]*) k_mark=('●' '◌' '↓' '≠' '⚠') ;;
    *) k_mark=(a q p c w) ;;
  esac
  case "$k_conn" in
    online) [[ "$k_a" == 0 ]] || k_text=" ${k_mark[0]}$k_a" ;;
    down) k_text=' down' ;;
    *) k_text=" ?${k_a#0}" ;;
  esac
  for k_a in "$k_q" "$k_p" "$k_c" "$k_w"; do
    [[ "$k_a" == 0 ]] || k_text="$k_text ${k_mark[k_i]}$k_a"
    k_i=$((k_i + 1))
  done
  k_label=${k_label//[[:cntrl:]]/}
  KHLONE_PROMPT="khlone:${k_label//$k_odd/_}$k_text"
  if [[ ${KHLONE_PROMPT_EXPORT-} == 1 ]]; then export KHLONE_PROMPT; fi
  return 0
}

# PS1 gets the segment in front, the first time there is one. Without promptvars bash would print it as it stands.
__khlone_show() {
  # shellcheck disable=SC2016 # PS1 is expanded at each prompt, not here.
  local k_ours='${KHLONE_PROMPT:+$KHLONE_PROMPT }'
  if [[ ${KHLONE_PROMPT_AUTO-} == 0 ]]; then
    PS1=${PS1-}
    PS1=${PS1#"$k_ours"}
  elif [[ ${PS1-} != *KHLONE_PROMPT* ]] && shopt -q promptvars; then
    PS1="$k_ours${PS1-}"
  fi
  return 0
}

# Before each prompt: adopt a session, then bring the segment up to date. One function, because calls are what costs.
# The index is looked at on entering a directory, after each khlone command, and at every prompt outside of zones,
# where a zone may appear; only its first line, a hash, until that changes. The line is formatted when it changed or
# grew stale (the hub vouches for a living one every 30 seconds; bash before 5 has no clock to see that it stopped).
# The status found is returned, for what stands after this in PROMPT_COMMAND; under `set -e` that would end the shell.
__khlone_precmd() {
  local k_status=$? k_dir="${KHLONE_HOME:-${HOME-}/.khlone}/shell" k_line=
  if [[ -r $k_dir/mail/$__khlone_shell ]]; then
    IFS= read -r __khlone_note <"$k_dir/mail/$__khlone_shell" || :
    [[ "$__khlone_note" == "$__khlone_seen" ]] || __khlone_adopt
  fi
  if [[ -n $__khlone_key && "$k_dir:$PWD" == "$__khlone_at" && -r $k_dir/zones/$__khlone_key ]]; then
    IFS= read -r k_line <"$k_dir/zones/$__khlone_key" || :
  else
    if [[ -r $k_dir/index ]]; then IFS= read -r k_line <"$k_dir/index" || :; fi
    if [[ "$k_dir:$PWD" != "$__khlone_at" || "$k_line" != "$__khlone_index" ]]; then
      __khlone_at="$k_dir:$PWD" __khlone_index=$k_line __khlone_key=
      [[ -z $k_line ]] || __khlone_locate "$k_dir/index"
    fi
    k_line=
    if [[ -n $__khlone_key && -r $k_dir/zones/$__khlone_key ]]; then
      IFS= read -r k_line <"$k_dir/zones/$__khlone_key" || :
    fi
  fi
  if [[ -n $k_line ]]; then
    # shellcheck disable=SC2071 # As words.
    if [[ "$k_line" != "$__khlone_shown" || "${EPOCHSECONDS-}" > "$__khlone_until" ]]; then
      __khlone_format "$k_dir/zones/$__khlone_key"
    fi
  elif [[ -n $__khlone_shown ]]; then
    KHLONE_PROMPT=
  fi
  __khlone_shown=$k_line
  [[ -z $KHLONE_PROMPT || "${PS1-}" == *KHLONE_PROMPT* && ${KHLONE_PROMPT_AUTO-} != 0 ]] || __khlone_show
  [[ $- != *e* ]] || return 0
  return "$k_status"
}

khlone_prompt() { __khlone_precmd; }

# Puts the hook into PROMPT_COMMAND once: at the end of an array (bash 5.1), in front of a string, to see $? first.
__khlone_hook() {
  local k_commands="${PROMPT_COMMAND[*]-}" k_kind=''
  [[ "$k_commands" != *__khlone_precmd* ]] || return 0
  if [[ ${BASH_VERSINFO[0]} -gt 5 || ${BASH_VERSINFO[0]}${BASH_VERSINFO[1]} -ge 51 ]]; then
    k_kind=${PROMPT_COMMAND[*]@a}
  fi
  if [[ $k_kind == *a* ]]; then
    PROMPT_COMMAND+=(__khlone_precmd)
  else
    # A line of its own, because the old value may begin or end with a semicolon.
    # shellcheck disable=SC2128,SC2178 # A string here; only element 0 of an array is meant.
    PROMPT_COMMAND="__khlone_precmd${PROMPT_COMMAND:+$'\n'$PROMPT_COMMAND}"
  fi
  return 0
}

# The shell's id is made once per process and never exported: a child shell inherits the session, not the mailbox.
__khlone_install() {
  if [[ ${__khlone_shell-} != $$-* ]]; then
    __khlone_shell=$$-${EPOCHSECONDS-$SECONDS}-$RANDOM$RANDOM
    __khlone_seen=
  fi
  __khlone_note='' __khlone_at='' __khlone_index='' __khlone_key='' __khlone_shown='' __khlone_until=9 KHLONE_PROMPT=''
  export -n __khlone_shell KHLONE_PROMPT
  [[ $- != *i* ]] || __khlone_hook
}
__khlone_install
