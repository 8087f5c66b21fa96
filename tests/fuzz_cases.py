"""Cases for the fuzzer: a mistake in a command line, a damaged run, or damaged data, and the command that meets it."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_values
from command import TINY, composed
from forks import Server
from fuzz_data import DATA, FILES, NEW, QUESTIONS, RUNS, make_data, question
from omegaconf import OmegaConf

from narrows.config.composition import choice_files
from narrows.config.plain_yaml import flatten

NO_TASKS = ("~tasks.reconstruction", "~tasks.latent")
SMALL = (*TINY, *NO_TASKS, "trainer.limit_train_batches=1", "hydra.run.dir=new")
ANYTHING = {0, 2}
TRAIN = "narrows.commands.train:main"


@dataclass
class Case:
    """One mistake, prepared in a folder of its own, in which the command then runs."""

    name: str
    main: str
    """The function that runs the command: `module:name`."""
    arguments: list[str]
    folder: Path
    codes: set[int] = field(default_factory=lambda: set(ANYTHING))
    """The exit codes that the command documents for such an input."""
    finished: Path | None = None
    """A run that must be the same afterwards, if the command refuses."""
    nonsense: bool = False
    """Whether the value means nothing, so that the command must refuse it."""


@dataclass
class Workshop:
    """Data, and runs finished on them, from which cases are made.

    Args:
        root: an empty folder.
        server: forks the runs.
    """

    root: Path
    server: Server

    def __post_init__(self) -> None:
        make_data(self.data)
        pids = {name: self._train(name) for name in RUNS}
        for name, pid in pids.items():
            ended = self.server.wait(pid)
            assert ended.code == 0, f"{name}: {ended.out}"
        for name in NEW:
            command, arguments = question(name, name, str(self.data / NEW[name]), packed=False)
            main = f"narrows.commands.{command}:main"
            ended = self.server.wait(self.server.start(*arguments, cwd=self.runs, main=main))
            assert ended.code == 0, f"{command} {name}: {ended.out}"
            if command == "compress":
                (self.runs / "out").replace(self.runs / name / "new.nrwz")

    def _train(self, name: str) -> int:
        options = (*SMALL[:-1], *self.reading(RUNS[name]), f"hydra.run.dir={name}", "datamodule.batch_size=16")
        self.runs.mkdir(exist_ok=True)
        return self.server.start(*options, cwd=self.runs)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def reading(self, options: Sequence[str], data: Path | None = None) -> list[str]:
        return [option.format(data=data or self.data) for option in options]

    def place(self, number: int) -> Path:
        folder = self.root / f"case-{number}"
        folder.mkdir()
        return folder


# What a user may type.

SEQUENTIAL = ("lstm", "gru", "tcn", "transformer", "lapped")


def bases(everything: bool, draw: random.Random) -> list[tuple[str, ...]]:
    """Compositions that together have the keys of every choice; a few of them, unless `everything` is asked for."""
    found: list[tuple[str, ...]] = [(f"variant={name}",) for name in choice_files("variant")]
    halves = sorted({*choice_files("encoder"), *choice_files("decoder")})
    for name in halves:
        pair = [f"{group}={name}" for group in ("encoder", "decoder") if name in choice_files(group)]
        found.append((*pair, *(["datamodule=series"] if name.removesuffix("_ar") in SEQUENTIAL else [])))
    for group in ("optimizer", "scheduler", "density", "corruption", "likelihood", "callbacks", "logger", "input"):
        found += [(f"{group}={name}",) for name in choice_files(group)]
    found += [(f"+task@tasks.t={name}",) for name in choice_files("task")]
    data = [tuple(options) for options in DATA.values()] + [("datamodule=bundled",)]
    if not everything:
        found = draw.sample(found, 6)
    return [*data, *found]


def knobs(workshop: Workshop, everything: bool, draw: random.Random) -> list[tuple[tuple[str, ...], str, Any]]:
    """Every key of these compositions once, with the first composition that has it, and its value there."""
    found: dict[tuple[str, str], tuple[tuple[str, ...], str, Any]] = {}
    for base in bases(everything, draw):
        options = tuple(workshop.reading(base))
        quiet = tuple(text for text in SMALL if not (text == "callbacks=none" and "callbacks=" in str(base)))
        config = composed(*options, *quiet)
        values: Any = OmegaConf.to_container(config, resolve=True)
        for key, value in flatten({k: v for k, v in values.items() if k != "sweep"}).items():
            owner = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else {}
            target = owner.get("_target_", "") if hasattr(owner, "get") else ""
            group, name = key.partition(".")[0], key.rpartition(".")[2]
            owner_name = group if name[0] == "_" else (str(target) or key)
            found.setdefault((owner_name, name), ((*quiet, *options), key, value))
    return list(found.values())


def typed(workshop: Workshop, chosen: tuple[tuple[str, ...], str, Any], number: int, draw: random.Random) -> Case:
    """A wrong value of one key, on the command line of `narrows train`."""
    options, key, value = chosen
    kind, override = fuzz_values.override(key, value, draw)
    if draw.random() < 0.1:
        kind, override = "structure", fuzz_values.structure([chosen[1], "datamodule.source._target_"], draw)
    main = TRAIN
    base = [text for text in options if text not in SMALL]
    case = Case(f"train {' '.join(base)} {override}", main, [*options, override], workshop.place(number))
    case.nonsense = kind in ("nan", "huge") and value is not None and not isinstance(value, str)
    return case


# What may have happened to a run.

MAY_CHANGE = ("trainer.", "callbacks.", "logger.", "tasks.", "datamodule.loading.", "data_dir", "checkpoint")
"""The keys of a run that may change when it goes on."""
COMMANDS = {
    "load": 6, "evaluate": 4, "sample": 3, "use": 3, "compare": 2, "diff": 2, "resume": 4, "reproduce": 1,
}  # fmt: skip
"""How often each meets a damaged run."""
UNCHANGED = (
    *("load", "evaluate", "sample", "score", "compress", "decompress", "recommend", "summarise"),
    "style",
    *("embed", "reconstruct"),
    *("compare", "diff", "reproduce"),
)
"""Those that leave a run as it was when they refuse."""


def damaged_run(workshop: Workshop, number: int, draw: random.Random) -> Case:
    """A run of which one file is damaged, and a command that reads it."""
    folder, name = workshop.place(number), draw.choice(list(RUNS))
    run = fuzz_values.copy_of(workshop.runs / name, folder / "run")
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and _is_record(path.relative_to(run))]
    kinds = sorted({_kind(path) for path in files})
    kind = draw.choice(kinds)
    file = draw.choice([path for path in files if _kind(path) == kind])
    said = fuzz_values.damage(file, draw)
    command = draw.choices(list(COMMANDS), list(COMMANDS.values()))[0]
    made = Case(f"{command} {name}: {file.relative_to(run)} {said}", "", [], folder)
    _ask(made, command, name, workshop, draw)
    return made


def mistaken_resume(workshop: Workshop, number: int, draw: random.Random) -> Case:
    """A finished run that is to go on with a wrong value of a key that may change."""
    folder, name = workshop.place(number), draw.choice(list(RUNS))
    run = fuzz_values.copy_of(workshop.runs / name, folder / "run")
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    values = {key: value for key, value in flatten(config).items() if key.startswith(MAY_CHANGE)}
    key = draw.choice(list(values))
    _, override = fuzz_values.override(key, values[key], draw)
    more = [] if key == "trainer.max_epochs" else ["trainer.max_epochs=2"]
    finished = run if "resume" in UNCHANGED else None
    return Case(f"resume {name}: {override}", TRAIN, ["resume=run", *more, override], folder, finished=finished)


def _is_record(path: Path) -> bool:
    return path.name != ".lock" and path.parts[0] not in ("figures", ".hydra") and path.suffix not in (".png", ".log")


def _kind(path: Path) -> str:
    return re.sub(r"\d+|\.vm\.\S*", "", path.name)


def _ask(case: Case, command: str, name: str, workshop: Workshop, draw: random.Random) -> None:
    """Set the command line that reads the damaged run."""
    run, module = case.folder / "run", f"narrows.commands.{command}:main"
    if command == "use":
        packed = name not in QUESTIONS and draw.random() < 0.5
        new = run / "new.nrwz" if packed else workshop.data / NEW[name]
        command, arguments = question(name, "run", str(new), packed, draw)
        module = f"narrows.commands.{command}:main"
    elif command == "load":
        module, arguments = "fuzz_api:main", ["run", draw.choice(["best", "last"])]
    elif command in ("compare", "diff"):
        arguments = ["run", str(workshop.runs / name)] if command == "diff" else ["run", "--csv", "out.csv"]
    elif command == "resume":
        more = draw.choice(["trainer.max_epochs=2", "trainer.max_epochs=0", "checkpoint=last"])
        module, arguments = TRAIN, ["resume=run", more]
    else:
        extra = {"evaluate": ["task=latent"], "sample": ["-n", "4"], "reproduce": ["--into", "again"]}
        arguments = ["run", *extra[command]]
        case.codes |= {3, 4} if command == "reproduce" else set()
        module = "fuzz_api:reproduce" if command == "reproduce" else module
    case.main, case.arguments = module, arguments
    case.finished = run if command in UNCHANGED else None


# What may have happened to data.


def damaged_data(workshop: Workshop, number: int, draw: random.Random) -> Case:
    """A data file that is damaged, and a run that reads it."""
    folder, name = workshop.place(number), draw.choice(list(FILES))
    data = fuzz_values.copy_of(workshop.data, folder / "data")
    said = fuzz_values.damage(data / name, draw)
    options = [*SMALL, *workshop.reading(FILES[name], data)]
    return Case(f"train on {name}: {said}", TRAIN, options, folder)


def damaged_input(workshop: Workshop, number: int, draw: random.Random) -> Case:
    """A file that a run is asked about, damaged."""
    folder, name = workshop.place(number), draw.choice(list(NEW))
    fuzz_values.copy_of(workshop.runs / name, folder / "run")
    packed = name not in QUESTIONS and draw.random() < 0.5
    source = workshop.runs / name / "new.nrwz" if packed else workshop.data / NEW[name]
    file = Path(shutil.copy(source, folder / source.name))
    said = fuzz_values.damage(file, draw)
    command, arguments = question(name, "run", file.name, packed, draw)
    main = f"narrows.commands.{command}:main"
    return Case(f"{command} {file.name} ({name}): {said}", main, arguments, folder, finished=folder / "run")


def draw_cases(workshop: Workshop, count: int, seed: int, everything: bool) -> Iterator[Case]:
    """`count` cases; the same for the same seed. Half of them are wrong values, each key in its turn."""
    draw = random.Random(seed)
    keys = knobs(workshop, everything, draw)
    draw.shuffle(keys)
    for number in range(count):
        turn = number % 10
        if turn < 4:
            yield typed(workshop, keys[(number // 10 * 4 + turn) % len(keys)], number, draw)
        elif turn == 4:
            yield mistaken_resume(workshop, number, draw)
        elif turn < 8:
            yield damaged_run(workshop, number, draw)
        else:
            yield (damaged_data if turn == 8 else damaged_input)(workshop, number, draw)
