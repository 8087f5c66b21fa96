#!/usr/bin/env bash
# The suite under other versions of the libraries than .ci/constraints.txt names.
#
#   scripts/test_versions.sh oldest|newest|next [PYTEST ARGUMENTS]
#
# oldest: every lower bound of pyproject.toml; newest: whatever its ranges admit; next: newest with pre-releases of Hydra
# and OmegaConf. Each is a virtual environment of its own in a temporary folder. TORCH="torch==2.13.0 torchvision==0.28.0"
# keeps a build that the machine has, because torch is large.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

which=${1:-}
case $which in
  oldest | newest | next) shift ;;
  *)
    echo "scripts/test_versions.sh oldest|newest|next [PYTEST ARGUMENTS]" >&2
    exit 2
    ;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-python3}
"$python" -m venv "$folder/venv"
# One requirement a line: in `oldest` the lower bound of each.
"$python" - "$which" "${TORCH:-}" > "$folder/requirements.txt" <<'PROGRAM'
import re
import sys
import tomllib

which, torch = sys.argv[1:]
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
tools = [text for text in project["optional-dependencies"]["test"] if not text.startswith(("ruff", "mypy"))]
for text in [*project["dependencies"], *tools]:
    name = re.match(r"[\w-]+", text)[0]
    if torch and name in ("torch", "torchvision"):
        continue
    print(re.sub(r">=([\w.]+).*", r"==\1", text) if which == "oldest" and text in project["dependencies"] else text)
for text in torch.split():
    print(text)
if which == "next":
    print("hydra-core>=1.4.0rc1,<1.5\nomegaconf>=2.4.0rc1,<2.5")
PROGRAM
"$folder/venv/bin/python" -m pip install --quiet --upgrade -r "$folder/requirements.txt"
"$folder/venv/bin/python" -m pip install --quiet --no-deps --editable .
"$folder/venv/bin/python" -m pip list | grep -iE '^(torch|lightning|hydra|omegaconf|numpy|pandas|scikit|rich|tensorboard|optuna)'
# These environments are on purpose not the pinned one. Old libraries beside new ones of which they know nothing warn of
# what is deprecated, which a suite within the suite takes for an error.
left_out=(--deselect tests/test_packaging.py::test_pins_are_what_runs_here)
if [ "$which" = oldest ]; then
  left_out+=(--deselect tests/test_packaging.py::test_all_that_is_needed_is_pinned)
  left_out+=(--deselect tests/test_documents.py::test_a_newcomer_adds_a_bottleneck_by_the_book)
  left_out+=(-W ignore::DeprecationWarning -W ignore::FutureWarning)
fi
"$folder/venv/bin/python" -m pytest "${left_out[@]}" "$@"
