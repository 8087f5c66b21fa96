"""The rules of the house: arrows point down, every room shows its face, and configs name rooms, not files."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import narrows
from narrows.config.composition import config_dir
from narrows.runs import file_names

HOUSE = Path(narrows.__file__).parent
FLOORS = (
    {"_torchvision", "errors", "batches", "random", "distributed", "os_signals", "standard_streams"},
    {"data_spec", "files", "launching"},
    {"types"},
    {"schedules", "evaluation", "layers", "likelihoods", "data", "config"},
    {"corruptions", "inputs", "encoders", "bottlenecks"},
    {"decoders"},  # tied ones share the weights of their encoder
    {"models"},
    {"losses"},
    {"densities"},
    {"runs"},
    {"compare"},
    {"drawing", "coding", "loading"},
    {"tasks", "exporting"},
    {"sweeps", "new_data"},
    {"training"},
    {"commands"},
    {"cli", "sklearn"},
)
"""From the lowest up: a room imports from floors below its own and from itself. `narrows` itself is everybody's."""
FILES = {path: path.relative_to(HOUSE).with_suffix("").parts for path in sorted(HOUSE.rglob("*.py"))}
MODULES = {".".join(("narrows", *parts)).removesuffix(".__init__"): path for path, parts in FILES.items()}
PACKAGES = sorted({path.parent for path in FILES if path.name == "__init__.py"} - {HOUSE})


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> Iterator[str]:
    """The modules of narrows that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "narrows")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "narrows":
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                yield within if within in MODULES else str(node.module)


def test_every_room_has_a_floor_and_the_hall_is_small() -> None:
    rooms = {parts[0] for parts in FILES.values()} - {"__init__"}
    assert rooms == set().union(*FLOORS)
    assert len(list(HOUSE.glob("*.py"))) <= 16


def test_arrows_point_down() -> None:
    for module, path in MODULES.items():
        if module == "narrows":
            continue
        room = module.split(".")[1]
        rooms = {name.split(".")[1] for name in imports(path) if name != "narrows"} - {room}
        upward = sorted(other for other in rooms if floor(other) >= floor(room))
        assert upward == [], f"{module} imports from {upward}, which is no lower floor"


def test_there_is_no_circle() -> None:
    graph = {name: set(imports(path)) - {"narrows"} for name, path in MODULES.items() if name != "narrows"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")


def public_classes(package: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every public class defined in a package, sub-packages without a face of their own included."""
    for path, parts in FILES.items():
        faces = [parent for parent in path.parents if (parent / "__init__.pyi").exists()]
        if faces and faces[0] == package and not path.name.startswith("_"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield ".".join(("narrows", *parts)), node.name


@pytest.mark.parametrize("package", [p for p in PACKAGES if (p / "__init__.pyi").exists()], ids=lambda p: p.name)
def test_a_package_exports_its_public_classes(package: Path) -> None:
    face = importlib.import_module(".".join(("narrows", *package.relative_to(HOUSE).parts)))
    for module, name in public_classes(package):
        assert getattr(face, name) is getattr(importlib.import_module(module), name), f"{name} of {module}"


def test_every_package_with_public_classes_has_a_face() -> None:
    # A command is a parser and a call: nobody imports its classes.
    faceless = [package for package in PACKAGES if package.name != "commands"]
    without = [p for p in faceless if not any((q / "__init__.pyi").exists() for q in (p, *p.parents))]
    for package in without:
        for path in package.glob("*.py"):
            names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
            assert [name for name in names if not name.startswith("_")] == [], path


def test_no_config_names_a_file() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in config_dir().rglob("*.yaml")}
    named = {(path, name) for path, text in texts.items() for name in re.findall(r"_target_: (narrows\.[\w.]+)", text)}
    assert named
    top = {path.stem for path in HOUSE.glob("*.py")}
    for path, name in named:
        module = name.rpartition(".")[0]
        place = HOUSE.joinpath(*module.split(".")[1:])
        assert place.is_dir() or module.removeprefix("narrows.") in top, f"{path} names a file: {name}"


def test_the_names_of_a_run_s_files_are_spelt_once() -> None:
    names = {value for name, value in vars(file_names).items() if name.isupper() and isinstance(value, str)}
    names -= {getattr(file_names, name) for name in ("TASKS", "SAMPLES", "FIGURES", "CODING", "DENSITIES")}
    for path in MODULES.values():
        if path.stem != "file_names":
            nodes = list(ast.walk(ast.parse(path.read_text())))
            parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
            spelt = {node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in parts}
            assert spelt & names == set(), path
    folders = re.compile(rf'/ "({"|".join(file_names.FOLDERS)})"')
    assert [str(path) for path in MODULES.values() if folders.search(path.read_text())] == []
