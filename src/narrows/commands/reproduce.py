"""`narrows reproduce RUN`: run it again from its own record, and judge every figure.

    narrows reproduce RUN [--into DIR] [--allow PKG] [--tolerance 1e-6] [--threads N] [KEY=VALUE ...]
    narrows reproduce --from-config FILE [--against RUN] [...]

The run is repeated by `narrows train replay=...` in a process of its own with the recorded number of
threads, because sums of floating point numbers depend on it. Exit codes: 0 bitwise equal, 3 equal within the
tolerance, 4 different, 2 a user's mistake, 1 the run failed.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from narrows import os_signals
from narrows.commands.command_line import add_allow, packages, require_overrides
from narrows.compare.bitwise_equality import judge, judge_weights, read_judged_history, read_judged_metrics
from narrows.compare.reproduction_report import ARITHMETIC, Reproduction, differences, show
from narrows.compare.table_formats import console
from narrows.compare.two_runs import config_differences
from narrows.config.composition import run_dir, title
from narrows.errors import UserError, explained, printable, require
from narrows.files import read_json, write_json
from narrows.loading.adapt_config import adapt, find_weights, split
from narrows.loading.permitted_classes import read_config
from narrows.runs.file_names import CONFIG, HISTORY, MANIFEST, METRICS, REPRODUCTION
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.recorded_threads import recorded_threads
from narrows.runs.run_directory import read_manifest
from narrows.standard_streams import make_dependable

if TYPE_CHECKING:
    from torch import Tensor


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see narrows reproduce --help")


def parser() -> argparse.ArgumentParser:
    """The command line; paths and overrides share one argument, because options may stand between them."""
    made = _Parser(
        prog="narrows reproduce",
        description="Run a completed run again from its own record, and judge every figure.",
        epilog="exit codes: 0 bitwise equal, 3 equal within the tolerance, 4 different, 2 a mistake, 1 the run failed",
    )
    made.add_argument("arguments", nargs="*", metavar="RUN KEY=VALUE", help="a run directory, and values to change")
    made.add_argument("--from-config", type=Path, metavar="FILE", help="start from a resolved config instead of RUN")
    made.add_argument("--against", type=Path, metavar="RUN", help="with --from-config: the run to compare with")
    made.add_argument("--into", type=Path, metavar="DIR", help="the new run's directory (outputs/reproductions/...)")
    add_allow(made, "the config")
    made.add_argument("--tolerance", type=float, default=1e-6, metavar="X", help="relative, of a figure (1e-6)")
    made.add_argument("--threads", type=int, metavar="N", help="threads (as recorded)")
    made.add_argument("--keep-loggers", action="store_true", help="also those that write elsewhere, such as mlflow")
    return made


@dataclass
class Plan:
    """The run to repeat, and the record to judge it against."""

    file: Path
    config: DictConfig
    into: Path
    against: Path | None
    manifest: dict[str, Any] = field(default_factory=dict)
    """Of `against`."""
    adapted: dict[str, str] = field(default_factory=dict)
    """Values that must differ on this machine, in Hydra's grammar."""
    overrides: list[str] = field(default_factory=list)
    allow: list[str] = field(default_factory=list)
    threads: int | None = None
    keep_loggers: bool = False


def plan(options: argparse.Namespace, out: Console) -> Plan:
    """Read the record, and refuse what cannot be reproduced or judged.

    Raises:
        UserError: names what is missing or wrong.
    """
    arguments = list(options.arguments)
    run = options.against
    if options.from_config is None:
        require(run is None, "--against goes with --from-config: a run is judged against itself")
        require(bool(arguments), "name the run to reproduce, or give --from-config FILE")
        run = Path(arguments.pop(0))
    require_overrides(arguments, "only one run is reproduced at a time")
    require(options.tolerance >= 0, f"--tolerance must not be negative, but is {options.tolerance}")
    require(options.threads is None or options.threads > 0, "--threads must be at least 1")
    manifest = {} if run is None else _judgeable(run)
    file = run / CONFIG if options.from_config is None else options.from_config
    config = read_config(file)
    root = next((value for key, _, value in map(split, arguments) if key == "output_dir"), "outputs")
    allow = packages(options.allow)
    started = str(manifest.get("directory") or ".")
    adapted, left_out = adapt(config, started, arguments, root, options.keep_loggers)
    adapted |= find_weights(config, started, arguments)
    for name in left_out:
        out.print(f"left out: logger '{name}' writes elsewhere; --keep-loggers keeps it")
    return Plan(
        file=file,
        config=config,
        into=_new_directory(options.into or Path(run_dir(f"{root}/reproductions", _name(manifest), None)), run),
        against=run,
        manifest=manifest,
        adapted=adapted,
        overrides=arguments,
        allow=allow,
        threads=options.threads or recorded_threads(manifest),
        keep_loggers=options.keep_loggers,
    )


def _judgeable(run: Path) -> dict[str, Any]:
    require(run.is_dir(), f"there is no run directory {run}")
    require_plain_entries(run)
    manifest = read_manifest(run)
    status = manifest.get("status")
    cure = f"; finish it with: narrows train resume={run}" if status in ("running", "interrupted", "failed") else ""
    require(status == "completed", f"{run} is {status}: only a completed run can be judged{cure}")
    read_judged_metrics(run / METRICS)
    return manifest


def _name(manifest: Mapping[str, Any]) -> str:
    """A name for the new directory, safe even if a stranger wrote the manifest."""
    choices = manifest.get("choices")
    return re.sub(r"[^A-Za-z0-9_-]", "_", title(choices if isinstance(choices, dict) else {}))[:80]


def _new_directory(into: Path, run: Path | None) -> Path:
    taken = into.exists() and (not into.is_dir() or any(into.iterdir()))
    require(not taken, f"{into} is not empty: --into must name a new directory")
    inside = run is not None and into.resolve().is_relative_to(run.resolve())
    require(not inside, f"{into} lies in the run that is reproduced: --into must name a directory elsewhere")
    return into.resolve()


def train(asked: Plan) -> int:
    """Run the plan in its own process, showing its output as it comes; returns the exit code."""
    allow = [f"allow={','.join(asked.allow)}"] if asked.allow else []
    allow += ["keep_loggers=true"] if asked.keep_loggers else []
    adapted = [f"{key}={value}" for key, value in asked.adapted.items()]
    command = [sys.executable, "-m", "narrows.commands.train", f"replay={asked.file}", f"into={asked.into}"]
    # Its own process group, so that every signal reaches it exactly once, through this process.
    with (
        subprocess.Popen(
            [*command, *allow, *adapted, *asked.overrides], env=_environment(asked), process_group=0
        ) as child,
        _forwarding(child),
    ):
        return child.wait()


def _environment(asked: Plan) -> dict[str, str]:
    """The environment variables on which figures depend, as recorded."""
    environment = dict(os.environ)
    environment.pop("NARROWS_JOB", None)
    recorded = asked.manifest.get("environment")
    if isinstance(recorded, dict):
        for name in ARITHMETIC:
            environment.pop(name, None)
            if re.fullmatch(r"[\w:.,-]{1,40}", str(recorded.get(name, ""))):
                environment[name] = str(recorded[name])
    if asked.threads is not None:
        environment["OMP_NUM_THREADS"] = str(asked.threads)
    # The current directory may come from a stranger and hold a torch.py.
    environment["PYTHONSAFEPATH"] = "1"
    return environment


@contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    previous = {n: signal.signal(n, lambda number, _: child.send_signal(number)) for n in os_signals.ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def judged(asked: Plan, run: Path, tolerance: float) -> Reproduction:
    """Judge the new run against the old one."""
    after = read_json(asked.into / MANIFEST)
    found = Reproduction(str(run.resolve()), tolerance)
    found.judgements = [
        judge("metrics", _of_training(run, asked.manifest), _of_training(asked.into, asked.manifest), tolerance),
        judge("history rows", read_judged_history(run / HISTORY), read_judged_history(asked.into / HISTORY), tolerance),
    ]
    _judge_weights(found, run, asked.into)
    if OmegaConf.select(asked.config, "trainer.max_time") is not None:
        found.notes.append("trainer.max_time ends a run by the clock: how long it trains is another each time")
    # Paths of data do not count as differences: the data there have a fingerprint.
    configs = [OmegaConf.to_container(read_config(folder / CONFIG)) for folder in (run, asked.into)]
    differing = config_differences(*configs)  # type: ignore[arg-type]
    places = ("output_dir", "data_dir", *asked.adapted)
    kept = {k: v for k, v in differing.items() if not any(k == p or k.startswith(f"{p}.") for p in places)}
    found.differences = differences(asked.manifest, after, kept)
    names = [name for manifest in (asked.manifest, after) for name in manifest.get("nondeterministic") or []]
    found.nondeterministic = list(dict.fromkeys(map(str, names)))
    found.same_source = after.get("source") is not None and after["source"] == asked.manifest.get("source")
    return found


def _of_training(folder: Path, manifest: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a run, without those that `narrows evaluate` added to or changed in the original."""
    later = {str(name) for name in manifest.get("evaluated") or []}
    return {name: value for name, value in read_judged_metrics(folder / METRICS).items() if name not in later}


def _judge_weights(found: Reproduction, run: Path, into: Path) -> None:
    try:
        before, after = (_weights(folder) for folder in (run, into))
    except UserError as error:
        found.notes.append(f"weights are not compared: {error}")
    else:
        found.judgements.append(judge_weights(before, after, found.tolerance))


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights of the last checkpoint and of the density that was fitted to the latents."""
    from narrows.loading.fitted_density import fitted_path
    from narrows.loading.model_from_config import checkpoint_path, read_weights

    weights, fitted = read_weights(checkpoint_path(folder, "last")), fitted_path(folder)
    density = read_weights(fitted) if fitted.is_file() else {}
    return weights | {f"density.{name}": tensor for name, tensor in density.items()}


def reproduce(arguments: Sequence[str]) -> int:
    """Run, judge, record and report; returns the exit code.

    Raises:
        UserError: nothing was run, or there is nothing to judge against.
    """
    options = parser().parse_intermixed_args(list(arguments))
    out = console(140)
    asked = plan(options, out)
    threads = "" if asked.threads is None else f", threads: {asked.threads}"
    out.print(f"reproducing {asked.against or asked.file} in {asked.into}{threads}", soft_wrap=True)
    code = train(asked)
    if code != 0:
        if code != 2:
            print(f"narrows: the run in {printable(str(asked.into))} ended with exit code {code}", file=sys.stderr)
        return code if code == 2 or code > 128 else 1
    if asked.against is None:
        return 0
    found = judged(asked, asked.against, options.tolerance)
    manifest = read_json(asked.into / MANIFEST)
    write_json(asked.into / MANIFEST, manifest | {"reproduces": found.run})
    write_json(asked.into / REPRODUCTION, found.to_dict())
    show(found, out)
    return found.exit_code


def main() -> None:
    make_dependable()
    with os_signals.handled(), explained():
        code = reproduce(sys.argv[1:])
        sys.stdout.flush()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
