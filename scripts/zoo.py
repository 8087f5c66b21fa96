"""Train the whole zoo as one sweep (`configs/sweep/zoo.yaml`) and write its table into `configs/README.md`.

    python scripts/zoo.py --data-dir DIR                       # all variants; goes on with what was interrupted
    python scripts/zoo.py --data-dir DIR sweep.workers.jobs=2  # with more overrides of `narrows train -m`
    python scripts/zoo.py --table                              # the table alone, of the runs that there are
    python scripts/zoo.py --cost                               # what each variant is made of, in files and lines

A figure stands in the table only when a run in `--into` holds it.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig

from narrows.config.composition import choice_files, config_dir, register_resolvers, targets
from narrows.config.hydra_versions import VERSION_BASE

README = Path(__file__).parents[1] / "configs" / "README.md"
STAGES = ("model", "bottleneck", "loss", "corruption", "input", "density", "critic", "encoder", "decoder", "likelihood")
OWN = {
    "test/l0": "L0 {:.1f}",
    "test/dead_fraction": "{:.1%} dead",
    "test/codebook_usage": "{:.0%} of codes used",
    "test/perplexity": "perplexity {:.0f}",
    "test/active_units": "{:.0f} active units",
    "test/mig": "MIG {:.2f}",
    "test/clusters/ari": "ARI {:.2f}",
    "test/clusters/pca_50/ari": "PCA-50's {:.2f}",
    "test/topics/npmi": "NPMI {:.2f}",
    "test/topics/nmf/npmi": "NMF's {:.2f}",
    "test/recommendation/ndcg_100": "NDCG@100 {:.3f}",
    "test/recommendation/ease/ndcg_100": "EASE's {:.3f}",
    "test/denoised/psnr": "denoised {:.1f} dB",
    "test/hidden/mse": "MSE of hidden values {:.4f}",
    "test/hidden/ridge/mse": "ridge's {:.4f}",
}
"""The figures that are a variant's own, and how they are written."""
_NAME = r"(?:van den )?[A-Z][\w.-]+"
SOURCE = rf"({_NAME} (?:et al\.|and {_NAME})(?:, | \()|{_NAME}, (?:CS294A lecture notes, )?)(\d{{4}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data", help="where the data sets lie")
    parser.add_argument("--into", type=Path, default=Path("outputs/zoo"), help="the sweep's directory")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--cost", action="store_true", help="train nothing; count files and lines")
    parser.add_argument("overrides", nargs="*", help="more overrides of narrows train -m")
    options = parser.parse_args()
    if options.cost:
        place("cost", cost_table())
        return
    if not options.table:
        train(options)
    place("zoo", figure_table(options.into))


def train(options: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "narrows.commands.train", "-m", f"sweep.dir={options.into}"]
    if (options.into / "sweep.yaml").is_file():
        command += ["sweep.resume=true", *options.overrides]
    else:
        command += ["sweep=zoo", f"data_dir={options.data_dir}", *options.overrides]
    done = subprocess.run(command)
    if done.returncode:
        sys.exit(f"zoo: the sweep ended with {done.returncode}; the same command goes on with it")


# ── the table of figures ────────────────────────────────────────────────────────────────────────────────


def figure_table(sweep: Path) -> list[str]:
    """One row per finished run of the sweep, in the order of its recipes."""
    heads = ["variant", "source", "data", "parameters", "seconds", "unexplained", "PCA", "NLL", "FID", "of its own"]
    rows = [row(run) for run in finished(sweep)]
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, rows)]


def finished(sweep: Path) -> Iterator[Path]:
    for job in json.loads((sweep / "status.json").read_text())["jobs"]:
        if job["state"] == "completed":
            yield sweep / job["directory"]


def row(run: Path) -> list[str]:
    manifest, figures = (json.loads((run / name).read_text()) for name in ("manifest.json", "metrics.json"))
    choices = manifest["choices"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    binarise = config["datamodule"].get("binarise", "none")
    data = choices["datamodule"] + (f", {binarise} binary" if binarise != "none" else "")
    nll = _figure(figures, "test/nll", "{:.2f}")
    # What is trained to rebuild hidden values alone was never asked for the others.
    seen = {} if "test/hidden/mse" in figures else figures
    if nll:
        nll += f" ± {figures['test/nll_stderr']:.2f}"
    return [
        f"`{choices['variant']}`",
        source(choices["variant"]),
        data,
        f"{manifest['parameters']:,}",
        f"{manifest['seconds']:.0f}",
        *(_figure(seen, f"test/{key}variance_unexplained", "{:.3f}") for key in ("", "pca/")),
        nll,
        _figure(figures, "test/fid", "{:.2f}"),
        ", ".join(text for key, form in OWN.items() if (text := _own(figures, key, form))),
    ]


def _own(figures: Mapping[str, float], key: str, form: str) -> str:
    # A latent without zeros says nothing by its L0.
    dense = key in ("test/l0", "test/dead_fraction") and figures.get("test/l0_fraction") == 1
    return "" if dense else _figure(figures, key, form)


def _figure(figures: Mapping[str, float], key: str, form: str) -> str:
    return form.format(figures[key]) if key in figures else ""


def source(variant: str) -> str:
    """Authors and year, as the comment at the head of the variant's yaml gives them."""
    comment = " ".join(line[1:].strip() for line in _head(variant))
    found = re.search(SOURCE, comment)
    return f"{found[1].rstrip('( ,')} {found[2]}" if found else ""


def _head(variant: str) -> Iterator[str]:
    for line in (config_dir() / "variant" / f"{variant}.yaml").read_text().splitlines()[1:]:
        if not line.startswith("#"):
            return
        yield line


# ── what a variant costs ────────────────────────────────────────────────────────────────────────────────


def cost_table() -> list[str]:
    """Files and lines that a variant needs beyond those that stand above it in the table."""
    known: set[Any] = set()
    files: set[str] = set()
    heads = ["variant", "own classes", "lines of Python", "new files", "lines of its yaml"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    # The plain ones first: what they use is there already.
    first = ["undercomplete", "vae", "linear"]
    for name in [*first, *(n for n in choice_files("variant") if n not in first)]:
        classes = [c for c in components(composed(name)) if c not in known]
        new = sorted({inspect.getfile(c) for c in classes} - files)
        known.update(classes)
        files.update(inspect.getfile(c) for c in classes)
        shown = ", ".join(c.__name__ for c in classes)
        lines.append(
            _line([f"`{name}`", shown, str(sum(map(code_lines, classes))), str(len(new)), str(yaml_lines(name))])
        )
    return lines


def composed(variant: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        return compose("train", [f"variant={variant}"])


def components(config: DictConfig) -> list[type]:
    """The classes of narrows behind the stages, in the order of the config."""
    nodes = [node for stage in STAGES if config.get(stage) is not None for _, node in targets(config[stage])]
    found = [get_object(node._target_) for node in nodes]
    return list(dict.fromkeys(c for c in found if isinstance(c, type) and c.__module__.startswith("narrows.")))


def code_lines(target: type) -> int:
    """Lines of a class without blank ones, comments and docstrings."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(target)))
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(tree).splitlines())


def yaml_lines(variant: str) -> int:
    text = (config_dir() / "variant" / f"{variant}.yaml").read_text()
    return sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────


def place(name: str, lines: list[str]) -> None:
    """Between `<!-- NAME -->` and `<!-- /NAME -->` of the page."""
    text = README.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"zoo: {README} has no place {start.strip()} ... {end}")
    README.write_text(before + start + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
    print(f"{len(lines) - 2} rows written to {README}")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
