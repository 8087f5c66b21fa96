"""What the documents tell a newcomer to type, typed."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command import (
    COMMAND,
    Finished,
    manifest,
    recorded_config,
    reproduce_in_process,
    run_command,
    run_directories,
    run_in_process,
)
from defect_pictures import write_defects
from omegaconf import OmegaConf
from PIL import Image

from narrows.commands import compress, embed, reconstruct, sample
from narrows.config.composition import choice_files, config_dir
from narrows.runs.file_names import SWEEP

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
EXPERIMENTS = ROOT / "configs" / "experiment"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

# One epoch of two batches: the commands are proven to compose and run; what they reach is measured elsewhere.
SMALL = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "callbacks=none")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text, re.MULTILINE | re.DOTALL)


def commands(text: str, start: str = "narrows train") -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks(text, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


DAY = section("Sweep, compare, reproduce")
PICTURES = section("A day with your own pictures")
DEFECTS = section("Defects on pictures")
SYNTHETIC = section("Synthetic tables")
ATTRIBUTES = section("Attributes of your own")
PARTS = section("Several parts")


def test_the_readme_has_commands() -> None:
    assert len(commands(README.replace(DAY, "").replace(PICTURES, ""))) >= 8
    assert len(commands(DAY, "narrows")) >= 7


@pytest.mark.parametrize(
    "line",
    commands(
        README.replace(DAY, "")
        .replace(PICTURES, "")
        .replace(DEFECTS, "")
        .replace(SYNTHETIC, "")
        .replace(ATTRIBUTES, "")
        .replace(PARTS, "")
    ),
)
def test_a_command_of_the_readme(line: str, tmp_path: Path) -> None:
    _, _, *arguments = shlex.split(line)
    small = () if {"--help", "--cfg"} & set(arguments) else SMALL
    finished = run_in_process(*arguments, *small, cwd=tmp_path)
    assert finished.code == 0, finished.err
    if small:
        assert list(tmp_path.rglob("metrics.json"))


def test_synthetic_tables_are_made_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["ok", "ok", "broken"] * 40
    rows = [f"{place % 37},{word},{'ab'[place % 2]}\n" for place, word in enumerate(words)]
    Path("mine.csv").write_text("age,kind,city\n" + "".join(rows))
    (train,) = commands(SYNTHETIC)
    small = (*SMALL, "tasks.synthetic.max_rows=40", "tasks.synthetic.classics=false")
    finished = run_in_process(*shlex.split(train)[2:], *small, cwd=tmp_path)
    assert finished.code == 0, finished.err
    (figures,) = tmp_path.rglob("metrics.json")
    assert "test/synthetic/tstr" in figures.read_text()
    for line in commands(SYNTHETIC, "narrows sample"):
        sample.main([str(figures.parent) if word == "RUN" else word for word in shlex.split(line)[2:]])
    assert Path("new.csv").read_text().count("\n") == 10_001
    assert {line.split(",")[1] for line in Path("broken.csv").read_text().splitlines()[1:]} == {"broken"}


def test_attributes_of_one_s_own_are_given_as_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    lines = ["file,glasses,smile"]
    for number in range(60):
        picture = np.full((8, 8, 3), 60 + number, np.uint8)
        picture[2] = 255 * (number % 2)
        Image.fromarray(picture).save(tmp_path / "faces" / f"anna_{number}.png")
        lines.append(f"anna_{number}.png,{number % 2},{'' if number % 3 else number // 3 % 2}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    (line,) = commands(ATTRIBUTES)
    small = (*SMALL, "datamodule.source.size=8", "datamodule.validation=0.3", "tasks.interpretation.examples=3")
    done = run_in_process(*shlex.split(line)[2:], *small, cwd=tmp_path)
    assert done.code == 0, done.err
    (figures,) = tmp_path.rglob("metrics.json")
    assert {"test/interpretation/glasses/arithmetic", "test/interpretation/smile/pca/arithmetic"} <= set(
        json.loads(figures.read_text())
    )
    assert list(tmp_path.rglob("figures/attribute_smile.png"))


@pytest.mark.parametrize("line", commands(DEFECTS))
def test_a_folder_of_defects_is_judged_by_pixels(line: str, tmp_path: Path) -> None:
    write_defects(tmp_path / "mvtec" / "carpet", good=24, test=2)
    _, _, *arguments = shlex.split(line)
    smaller = ["datamodule.source.size=32", "tasks.anomaly.classics=[]"]
    smaller += ["datamodule.features.network.size=64"] * ("feature_map" in line)
    finished = run_in_process(*arguments, *SMALL, *smaller, cwd=tmp_path)
    assert finished.code == 0, finished.err
    (figures,) = tmp_path.rglob("metrics.json")
    assert "test/anomaly/aupro" in figures.read_text()
    assert ("test/anomaly/patchcore/aupro" in figures.read_text()) == ("feature_map" in line)


def test_parts_are_made_from_others_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train, rebuild = commands(PARTS, "narrows")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 60)
    image = rng.integers(0, 200, (60, 6, 6)).astype("uint8") + (18 * label).astype("uint8")[:, None, None]
    np.save("image.npy", image)
    sound = rng.normal(size=(60, 9)).astype("float32") + label[:, None]
    sound[3] = np.nan  # missing
    np.save("sound.npy", sound)
    image_is_one = "+datamodule.source.parts.image.kind=image"  # bytes of three axes are found to be one too
    done = run_in_process(*shlex.split(train)[2:], *SMALL, image_is_one, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "image (image, 1x6x6) with sound (vector, 9), paired by rows" in done.err
    (run,) = run_directories(tmp_path)
    np.savez("sound.npz", sound=sound[:5])
    reconstruct.main([str(run) if word == "RUN" else word for word in shlex.split(rebuild)[2:]])
    with np.load("made.npz") as made:
        assert made["image"].shape == (5, 1, 6, 6)
        assert made["sound"].shape == (5, 9)
        assert np.isfinite(made["image"][[0, 1, 2, 4]]).all()
        assert np.isnan(made["image"][3]).all()
        assert "no part" in made["problem"][3]
    sample.main([str(run), "-n", "4", "-o", "drawn.npz"])
    with np.load("drawn.npz") as drawn:
        assert {name: drawn[name].shape for name in drawn} == {"image": (4, 1, 6, 6), "sound": (4, 9)}
    embed.main([str(run), "sound.npz", "-o", "z.npz"])
    assert Path("z.npz").is_file()
    assert (run / "figures" / "multimodal.png").is_file()
    for command, given, message in (
        (reconstruct.main, "sound.npy", "reads a .npz with arrays named image, sound"),
        (compress.main, "sound.npz", "its data are multi-modal"),
    ):
        arguments = [given, "out.nrwz", "--run", str(run)] if command is compress.main else [str(run), given]
        with pytest.raises(SystemExit) as ended:
            command(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_a_newcomer_s_folder_of_texts_trains_with_the_command_of_the_readme(tmp_path: Path) -> None:
    (line,) = re.findall(r"`(narrows train datamodule=documents[^`]*)`", README)
    (tmp_path / "texts").mkdir()
    for number in range(30):
        (tmp_path / "texts" / f"{number}.txt").write_text(
            f"Cows eat grass and hay, {'cows' if number % 2 else 'bank'}."
        )
    done = run_in_process(*shlex.split(line)[2:], *SMALL, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "30 documents (files of texts)" in done.err
    assert list(tmp_path.rglob("vocabulary.json"))


def test_a_day_of_sweeping_comparing_and_reproducing(tmp_path: Path) -> None:
    """The section's commands, in their order, on the runs that the first ones leave."""
    ended = []
    for line in commands(DAY, "narrows"):
        runs = [str(run) for run in run_directories(tmp_path)]
        for name, run in {"RUN_A": runs[:1], "RUN_B": runs[1:2], "RUN": runs[:1]}.items():
            line = re.sub(rf"\b{name}\b", "".join(run), line)
        line = line.replace("bottleneck.dim=4,16", "bottleneck.dim=4").replace("max_epochs=60", "max_epochs=3")
        _, command, *arguments = shlex.split(re.sub(r"sweep.trials=\d+", "sweep.trials=1", line))
        more = SMALL if "-m" in arguments else ()  # what starts from these runs is as small
        if command == "train":
            done = run_in_process(*arguments, *more, cwd=tmp_path)
        elif command == "reproduce":
            done = reproduce_in_process(*arguments, cwd=tmp_path)
        else:
            done = run_command(command, *arguments, cwd=tmp_path, timeout=300)
        assert done.code == 0, f"{line}\n{done.err}\n{done.out}"
        assert done.out.strip(), line
        ended.append(done)
        if len(ended) == 2:
            check_sweep(tmp_path, ended[0])
    assert "bitwise equal" in next(tmp_path.rglob("reproduction.json")).read_text()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def check_sweep(folder: Path, begun: Finished) -> None:
    """Its jobs, its table and its record, and that going on with what is complete runs nothing again."""
    runs = run_directories(folder)
    assert [run.name for run in runs] == ["000_seed=0", "001_seed=1"]
    (sweep,) = {run.parent for run in runs}
    assert sweep.parent == folder / "outputs" / "sweeps" / "vae"
    for number, run in enumerate(runs):
        assert manifest(run)["status"] == "completed"
        assert manifest(run)["sweep"] == {"directory": str(sweep), "number": number, "varied": ["seed"]}
        assert (recorded_config(run).seed, recorded_config(run).bottleneck.dim) == (number, 4)
        assert not {"sweep", "hydra"} & set(recorded_config(run))
    losses = [json.loads((run / "metrics.json").read_text())["val/loss"] for run in runs]
    with open(sweep / "status.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["state"], float(row["val/loss"])) for row in rows] == [("completed", loss) for loss in losses]
    assert OmegaConf.load(sweep / SWEEP).plan.parameters == ["seed=0,1"]
    for command in ("compare", "tensorboard"):
        assert f"narrows {command} {sweep.relative_to(folder)}" in begun.out
    assert "2/2 done" in begun.err
    # The arguments of the first time are known to the directory.
    done = run_in_process("-m", f"sweep.dir={sweep}", "sweep.resume=true", cwd=folder)
    assert done.code == 0, done.err
    assert "standard deviation" in done.out
    assert run_directories(folder) == runs
    assert [len(manifest(run)["attempts"]) for run in runs] == [1, 1]


@pytest.mark.slow
def test_a_day_with_one_s_own_pictures(tmp_path: Path) -> None:
    """Its commands in their order. The colleague's config is the first job's, mailed without its record."""
    (tmp_path / "faces").mkdir()
    draws = np.random.default_rng(0)
    for number in range(40):
        pixels = draws.integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / f"{number}.png")
    for line in commands(PICTURES, "narrows"):
        _, command, *arguments = shlex.split(line.replace(" RUN", f" {next(iter(run_directories(tmp_path)), '')}"))
        if command == "tensorboard":
            watch_until_it_serves(arguments, tmp_path)
            continue
        if command == "train":
            done = run_in_process(*arguments, *SMALL, cwd=tmp_path)
        else:
            done = run_command(command, *arguments, cwd=tmp_path, timeout=300)
        assert done.code == 0, f"{line}\n{done.err}\n{done.out}"
        shutil.copy(run_directories(tmp_path)[0] / "config.yaml", tmp_path / "colleague.yaml")
    started = [told["from"]["path"] for run in run_directories(tmp_path) if "from" in (told := manifest(run))]
    assert started == [str(tmp_path / "colleague.yaml")] * 3
    assert "bitwise equal" in next(tmp_path.rglob("reproduction.json")).read_text()


def watch_until_it_serves(arguments: list[str], cwd: Path) -> None:
    with subprocess.Popen([COMMAND, "tensorboard", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        assert re.match(r"\d+ runs at http://", shown.stdout.readline())
        shown.send_signal(signal.SIGINT)
        assert shown.wait(timeout=60) == 0


def test_the_readme_s_python_runs(tmp_path: Path) -> None:
    assert run_in_process(*SMALL, cwd=tmp_path).code == 0
    # The other runs where there is no torch: tests/exporting asks.
    text, _ = blocks(README, "python")
    shown = re.search(r'load\("(.*?)"\)', text)
    assert shown
    text = text.replace(shown[1], str(run_directories(tmp_path)[0])).replace("max_epochs=50", "max_epochs=1")
    text = text.replace("AutoencoderDetector()", "AutoencoderDetector(max_epochs=1)")
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "photos" / "one.png")
    text = text.replace("photos/", str(tmp_path / "photos"))
    table = np.random.default_rng(0).normal(size=(40, 6))
    names = {"images": torch.rand(3, 1, 8, 8), "table": table, "normals": table}
    exec(text, names)
    assert names["z"].shape == (3, 8)
    assert len(names["codes"]) == len(table)


def test_the_first_screen_installs_with_the_constraints() -> None:
    install = [line for block in blocks(README, "bash") for line in block.splitlines() if line.startswith("pip ")]
    assert install == [
        "pip install -c .ci/constraints.txt -e . && narrows train",
        "pip install -c .ci/constraints.txt -e '.[test]' && python -m pytest",
    ]


# ── names and places that the documents give ────────────────────────────────────────────────────────────

PAGES = [*ROOT.glob("*.md"), *(ROOT / "configs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in links_of(page) if not (page.parent / link).exists()] == []


def links_of(page: Path) -> list[str]:
    """Relative ones, without what a file has inside."""
    return re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    to_come = set(re.findall(r"^ *```\w+ (\S+)$", page.read_text(), re.MULTILINE))
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|md|txt))`", page.read_text())) - to_come
    places = (ROOT, ROOT / "src/narrows", page.parent)
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_the_source_distribution_holds_what_the_pages_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    links = {(page.parent / link).resolve().relative_to(ROOT) for page in PAGES for link in links_of(page)}
    wanted = {*links, Path(".ci/constraints.txt"), *(page.relative_to(ROOT) for page in PAGES)}
    assert [str(path) for path in sorted(wanted) if path not in held] == []


def test_the_map_names_every_room() -> None:
    drawn = set(re.findall(r"\w+", CONTRIBUTING.partition("## The map of the house\n")[2].partition("\n## ")[0]))
    house = ROOT / "src" / "narrows"
    rooms = {path.stem for path in house.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} - drawn <= {"_torchvision"}


def listed_choices() -> dict[str, set[str]]:
    """The words of the README's table of choices by group; what stands in brackets explains one."""
    rows: dict[str, set[str]] = {}
    groups: list[str] = []
    for line in section("Compose").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 4 or cells[1] in ("group", "---"):
            continue
        groups = re.findall(r"`([a-z/]+)`", cells[1]) or groups
        names = re.sub(r"\([^)]*\)|^[a-z ]+:", "", cells[2])
        for group in groups:
            rows.setdefault(group, set()).update(re.findall(r"[a-z][a-z0-9_/*]*", names))
    return rows


def test_the_readme_lists_every_choice_and_no_other() -> None:
    table = listed_choices()
    assert {"variant", "encoder", "bottleneck", "decoder", "loss", "datamodule", "task", "experiment"} <= set(table)
    others = set(re.findall(r"`(\w+)`", README.partition("There are also ")[2].partition(";")[0]))
    assert set(table) | others == {path.name for path in config_dir().iterdir() if path.is_dir()}
    assert set(table) & others == set()
    both = set(choice_files("encoder")) | set(choice_files("decoder"))
    for group, listed in table.items():
        there = set(choice_files(group)) | {f"{folder.parent.name}/*" for folder in inner_yamls(group)}
        assert listed == (both if group in ("encoder", "decoder") else there), group


def inner_yamls(group: str) -> list[Path]:
    return sorted((config_dir() / group).glob("*/*.yaml"))


# ── what an experiment's yaml promises ──────────────────────────────────────────────────────────────────

YAMLS = {path.relative_to(EXPERIMENTS).with_suffix("").as_posix(): path for path in sorted(EXPERIMENTS.rglob("*.yaml"))}
PROMISES = ("command", "source", "wall time", "figure")


def header(text: str) -> str:
    return "".join(f"{line}\n" for line in itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))


def promises(text: str) -> dict[str, str]:
    """What a header says under each of its words, whose further lines are indented as the first."""
    found = re.findall(r"^# ([a-z ]+):  +(\S.*\n(?:#    +\S.*\n)*)", header(text), re.MULTILINE)
    return {word: re.sub(r"\n# +", "\n", said).strip() for word, said in found}


def header_commands(text: str) -> list[list[str]]:
    """The arguments of each `narrows train` in a header; `-m` is left out, and of several values all but the first."""
    code = re.sub(r"^# (command:)?", "", header(text), flags=re.MULTILINE)
    lines = re.findall(r"^ +(narrows train .*(?:\n +(?!narrows)\S.*)*)", code, re.MULTILINE)
    asked = [[argument for argument in shlex.split(line)[2:] if argument != "-m"] for line in lines]
    return [[re.sub(r"^(\w+=\w+),.*", r"\1", argument) for argument in arguments] for arguments in asked]


@pytest.mark.parametrize("name", YAMLS)
def test_an_experiment_states_command_source_time_and_figure(name: str) -> None:
    said = promises(YAMLS[name].read_text())
    assert tuple(said) == PROMISES
    assert f"experiment={name}" in said["command"].split()
    assert all(line.startswith(("narrows ", "'", "tasks.")) for line in said["command"].splitlines())
    assert re.search(r"https?://|our own", said["source"]), said["source"]
    assert re.search(r"not measured|\d (s|minutes)\b|seconds|minutes?\b", said["wall time"]), said["wall time"]
    assert re.search(r"\d|those of", said["figure"]), said["figure"]


def commands_with_options() -> list[list[str]]:
    """Those that only name an experiment are composed by tests/end_to_end/test_every_config.py."""
    asked = [arguments for name in YAMLS for arguments in header_commands(YAMLS[name].read_text())]
    assert len(asked) >= len(YAMLS)
    return [
        arguments for arguments in asked if [a for a in arguments if not a.startswith(("experiment=", "data_dir="))]
    ]


@pytest.mark.parametrize("arguments", commands_with_options(), ids=" ".join)
def test_a_command_of_an_experiment_s_header_composes(arguments: list[str], tmp_path: Path) -> None:
    done = run_in_process(*arguments, "--cfg", "job", cwd=tmp_path)
    assert done.code == 0, done.err


def test_every_experiment_stands_in_the_table_of_figures() -> None:
    page = (EXPERIMENTS / "README.md").read_text()
    named = set(re.findall(r"`([a-z]\w*(?:/\w+)?)[ `]", page))
    assert set(YAMLS) - named == set()


# ── CONTRIBUTING ────────────────────────────────────────────────────────────────────────────────────────


def test_a_newcomer_adds_a_bottleneck_by_the_book(tmp_path: Path) -> None:
    """Do in a copy of the tree what the section says, then ask the laws and the command."""
    for folder in ("src", "configs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = re.findall(r"^ *```\w+ (\S+)\n(.*?)^ *```", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in written] == [
        "src/narrows/bottlenecks/simplex.py",
        "configs/bottleneck/simplex.yaml",
    ]
    for name, body in written:
        (tmp_path / name).write_text(re.sub(r"^ {3}", "", body, flags=re.MULTILINE))
    entry = re.search(r'`("simplex": .*?)`', CONTRIBUTING)
    assert entry
    table = tmp_path / "tests/instances.py"
    text = table.read_text().replace(
        "BOTTLENECKS: dict[str, Build] = {\n", f"BOTTLENECKS: dict[str, Build] = {{\n    {entry[1]}\n"
    )
    imported = "from narrows.decoders.mlp import MLPDecoder\n"
    table.write_text(text.replace(imported, "from narrows.bottlenecks.simplex import Simplex\n" + imported))

    line = re.search(r"`(from \.simplex import .*?)`", CONTRIBUTING)
    assert line
    face = tmp_path / "src/narrows/bottlenecks/__init__.pyi"
    face.write_text(face.read_text() + line[1] + "\n")

    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "tests/test_command.py").write_text(f"""
from command import run_in_process
def test_simplex_trains(tmp_path):
    done = run_in_process("variant=undercomplete", "bottleneck=simplex", *{SMALL}, cwd=tmp_path)
    assert done.code == 0, done.err
""")
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    options = ["-v", "-n0", "-p", "no:cacheprovider", "-k", "simplex"]
    files = ["tests/laws/test_bottlenecks.py", "tests/laws/test_examples.py", "tests/test_command.py"]
    asked = subprocess.run([sys.executable, "-m", "pytest", *options, *files], **run)
    assert asked.returncode == 0, asked.stdout
    assert "[simplex]" in asked.stdout
    assert "[bottlenecks.Simplex] PASSED" in asked.stdout
    assert "test_simplex_trains PASSED" in asked.stdout


def test_printed_tables_are_rewritten_by_their_command(tmp_path: Path) -> None:
    """What `scripts/readme_tables.py` runs is what the page tells to type, and its lines land in the page's places."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import readme_tables as tables
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    assert tables.command("narrows train$") == "narrows train"
    for place in ("start", "sweep", "compare"):
        page = tables.placed(README, place, ["│ one │ 1 │", "two"])
        assert f"<!-- {place} -->\n```text\n│ one │ 1 │\ntwo\n```\n<!-- /{place} -->" in page
        assert len(page) < len(README)
    with pytest.raises(SystemExit, match="needs one place"):
        tables.placed(README, "elsewhere", [])
    shown, said = tables.run(
        f"{sys.executable} -c \"import sys; print('│ 1 │'); print('log', file=sys.stderr)\"", tmp_path
    )
    assert (shown, said) == (["│ 1 │"], ["log"])
    with pytest.raises(SystemExit, match="ended with 3"):
        tables.run(f'{sys.executable} -c "raise SystemExit(3)"', tmp_path)
