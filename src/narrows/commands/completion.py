"""`narrows completion SHELL`: tab completion of commands, and of groups, choices and keys by Hydra's own plugin."""

from __future__ import annotations

import sys

from narrows.commands import COMMANDS
from narrows.errors import nearest
from narrows.standard_streams import make_dependable

BASH = """\
_narrows() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$current"))
  elif [ "${{COMP_WORDS[1]}}" = train ]; then
    COMPREPLY=($(COMP_LINE="narrows ${{COMP_LINE#*train }}" COMP_POINT=${{#COMP_LINE}} \\
      narrows train -sc query=bash 2>/dev/null))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
COMP_WORDBREAKS="${{COMP_WORDBREAKS//=}}"
complete -o nospace -o default -F _narrows narrows
"""

ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def script(shell: str) -> str:
    """The script that the shell must evaluate.

    Raises:
        KeyError: an unknown shell.
    """
    bash = BASH.format(commands=" ".join(COMMANDS))
    return {"bash": bash, "zsh": ZSH + bash}[shell]


def main() -> None:
    make_dependable()
    shell = sys.argv[1] if len(sys.argv) > 1 else "bash"
    try:
        print(script(shell), end="")
    except KeyError:
        print(f"narrows completion: unknown shell '{shell}': {nearest(shell, ('bash', 'zsh'))}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
