# For plugin managers (antidote, zinit, oh-my-zsh custom plugins), which look for <name>.plugin.zsh.
source "${${(%):-%x}:A:h}/shell/khlone.zsh"
