"""A config from a stranger executes nothing but components."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import composed
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

import narrows
from narrows.config.composition import config_dir, targets
from narrows.config.hydra_versions import instantiate, register_resolver
from narrows.errors import UserError
from narrows.loading import permitted_classes
from narrows.loading.permitted_classes import read_config, require_trusted, without_foreign_loggers

Node = dict[str, Any]


class Sings:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def pickled(canary: Path) -> str:
    path = canary.with_name("pickle.bin")
    path.write_bytes(pickle.dumps(Sings(canary)))
    return str(path)


def array(canary: Path) -> str:
    path = canary.with_name("array.npy")
    np.save(path, np.array([Sings(canary)], dtype=object), allow_pickle=True)
    return str(path)


def hub(canary: Path) -> str:
    folder = canary.with_name("hub")
    folder.mkdir()
    (folder / "hubconf.py").write_text(f"def model():\n    return open({str(canary)!r}, 'w').close()\n")
    return str(folder)


def script(canary: Path) -> str:
    path = canary.with_name("script.py")
    path.write_text(f"open({str(canary)!r}, 'w').close()\n")
    return str(path)


CALLED_BY_HYDRA: dict[str, Callable[[Path], Node]] = {
    "pathlib.Path.write_text": lambda canary: {"_args_": [{"_target_": "pathlib.Path", "_args_": [str(canary)]}, "x"]},
    "shutil.copyfile": lambda canary: {"_args_": [script(canary), str(canary)]},
    "torch.load": lambda canary: {"f": pickled(canary), "weights_only": False},
    "torch.serialization.load": lambda canary: {"f": pickled(canary), "weights_only": False},
    "numpy.load": lambda canary: {"file": array(canary), "allow_pickle": True},
    "joblib.load": lambda canary: {"filename": pickled(canary)},
    "torch.hub.load": lambda canary: {"repo_or_dir": hub(canary), "source": "local", "model": "model"},
    "torchvision.io.write_file": lambda canary: {
        "filename": str(canary),
        "data": {"_target_": "torch.zeros", "_args_": [1], "dtype": {"_target_": "hydra.utils.get_object"}},
    },
    "narrows.files.write_atomically": lambda canary: {
        "path": {"_target_": "pathlib.Path", "_args_": [str(canary)]},
        "text": "x",
    },
    "narrows.config.building.build": lambda canary: {"node": {"a": 1}, "path": "x"},
    "narrows.cli.main": lambda canary: {},
    "narrows.data.dataset_files.fetch": lambda canary: {"_partial_": True},
    "narrows.likelihoods.elementwise.torch.load": lambda canary: {"f": pickled(canary), "weights_only": False},
    "narrows.losses.torch.hub.load": lambda canary: {"repo_or_dir": hub(canary), "source": "local", "model": "model"},
    "torch.nn.modules.module.warnings.sys.exit": lambda canary: {"_args_": [3]},
    "torch.optim.optimizer.torch.load": lambda canary: {"f": pickled(canary), "weights_only": False},
}
"""What these would do to a canary; the named arguments beside the `_target_`."""
REFUSED = (
    *("os.system", "posix.system", "builtins.eval", "subprocess.run", "pickle.loads", "pip.main", "runpy.run_path"),
    *("hydra.utils.get_method", "hydra.utils.instantiate", "hydra.utils.get_class", "hydra._internal.utils._locate"),
    *("torch.distributed.run.main", "torch.utils.cpp_extension.load", "torch.jit.load", "torch.fx.GraphModule"),
    *(
        "torch.nn.Module.load_state_dict",
        "torch.nn.functional.relu",
        "torch.nn.init.os.system",
        "torch.nn.parameter.Parameter",
    ),
    *("torch.optim.swa_utils.AveragedModel", "torch.optim.Optimizer.step", "torch.package.PackageImporter"),
    *("torchvision.datasets.MNIST", "torchvision.models.resnet18", "torchvision.models.get_model"),
    *("lightning.pytorch.callbacks.ModelCheckpoint", "lightning.pytorch.callbacks.OnExceptionCheckpoint"),
    *("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.profilers.SimpleProfiler", "lightning.Fabric"),
    *("lightning.pytorch.strategies.DeepSpeedStrategy", "lightning.pytorch.cli.LightningCLI"),
    *("lightning.LightningModule.load_from_checkpoint", "lightning.pytorch.plugins.io.TorchCheckpointIO"),
    *(
        "narrows.load",
        "narrows.loading.model_from_config.load",
        "narrows.loading.model_from_config.read_weights",
        "narrows.commands.train.main",
    ),
    *("narrows.runs.summary.SweepSummary", "narrows.errors.UserError", "narrows.training.lightning_module.L.Trainer"),
    *(
        "narrows.layers.blocks.mlp",
        "narrows.data.sources.mnist._MnistLike",
        "narrows.training.loggers.CSVHistory.log_metrics",
    ),
    *(
        "narrows.encoders.mlp.MLPEncoder.__init__.__globals__",
        "narrows",
        "torch",
        "",
        ".",
        "narrows.",
        ".narrows.models.autoencoder",
    ),
    *(
        "narrows.models.autoencoder.Autoencoder ",
        "narrows.models.autoencoder.Autoencoder\n",
        "narrows..model.Autoencoder",
        "torch.nn.Lin\u0435ar",
    ),
)


def config_of(node: Any) -> DictConfig:
    return OmegaConf.create({"seed": 0, "encoder": node})


def refusal(node: Any, *allow: str) -> str:
    with pytest.raises(UserError) as caught:
        require_trusted(config_of(node), allow)
    return str(caught.value)


@pytest.mark.parametrize("target", REFUSED)
def test_what_is_no_component_is_refused(target: str) -> None:
    assert "encoder._target_" in refusal({"_target_": target, "_partial_": True})


@pytest.mark.parametrize("target", CALLED_BY_HYDRA)
def test_what_hydra_would_call_is_refused_and_not_called(target: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    node = {"_target_": target, **CALLED_BY_HYDRA[target](canary)}
    sentence = refusal(node)
    assert "_target_" in sentence
    assert not canary.exists()


@pytest.mark.parametrize(
    "target",
    ["pathlib.Path.write_text", "shutil.copyfile", "torch.load", "numpy.load", "joblib.load", "torch.hub.load"],
)
def test_without_the_list_hydra_calls_them(target: str, tmp_path: Path) -> None:
    """The tests above would notice: these canaries sing."""
    canary = tmp_path / "canary"
    # After the song, some find that the file is none of theirs.
    with contextlib.suppress(InstantiationException, RuntimeError):
        instantiate(config_of({"_target_": target, **CALLED_BY_HYDRA[target](canary)}))
    assert canary.exists()


def test_a_name_that_walks_out_of_its_module_is_refused() -> None:
    with pytest.raises(SystemExit):
        instantiate({"_target_": "torch.nn.modules.module.warnings.sys.exit"})
    assert "torch.nn.modules.module.warnings.sys.exit" in refusal(
        {"_target_": "torch.nn.modules.module.warnings.sys.exit"}
    )


@pytest.mark.parametrize(
    ("place", "node"),
    [
        ("encoder._target_", {"_target_": "os.system"}),
        ("encoder.a.b._target_", {"a": {"b": {"_target_": "os.system"}}}),
        ("encoder[1]._target_", [1, {"_target_": "os.system"}]),
        ("encoder[0][0].x._target_", [[{"x": {"_target_": "os.system"}}]]),
        ("encoder._args_[0]._target_", {"_target_": "torch.nn.ReLU", "_args_": [{"_target_": "os.system"}]}),
        ("encoder.optimizer._target_", {"_target_": "torch.nn.ReLU", "optimizer": {"_target_": "os.system"}}),
        ("encoder._target_", {"_target_": ["os.system"]}),
        ("encoder._target_", {"_target_": {"_target_": "hydra.utils.get_method", "path": "os.system"}}),
        ("encoder._target_", {"_target_": 3}),
        ("encoder._target_", {"_target_": None}),
        ("encoder._target_", {"_target_": "???"}),
    ],
)
def test_a_target_is_found_wherever_it_stands(place: str, node: Any) -> None:
    assert refusal(node).startswith(place)


def test_a_reference_is_refused_where_it_is_a_target_or_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    register_resolver("canary", lambda: called.append("sang") or "x")
    for node in ({"_target_": "${canary:}"}, {"x": "${canary:}"}, "${canary:}", ["${canary:}"], "a${canary:}b"):
        assert "refers to something" in refusal(node)
    assert called == []
    OmegaConf.clear_resolver("canary")


def test_the_refusal_says_what_would_permit_it() -> None:
    sentence = refusal({"_target_": "mylab.nets.Encoder"})
    assert sentence == (
        "encoder._target_: 'mylab.nets.Encoder' is no component that a recorded config may build; if you trust it, "
        "permit all of mylab with --allow mylab (narrows train: allow=mylab)"
    )


def test_the_refusal_cannot_write_to_the_terminal() -> None:
    sentence = refusal({"_target_": "a.\x1b[31mb\r\n" + "c" * 500})
    assert sentence.isprintable()
    assert len(sentence) < 500


# ── the user's own packages ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory that is on Python's path, as under `python -m`, with a package that leaves a mark."""
    for name in ("mylab", "torchlab", "narrows_extra"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            "import os\nfrom narrows.runs.run_directory import write_atomically\n"
            f"open({str(tmp_path / 'canary')!r}, 'w').close()\n"
            "class Net:\n    pass\ndef net():\n    return Net()\n"
        )
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    yield tmp_path
    for name in ("mylab", "torchlab", "narrows_extra"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("target", ["mylab.Net", "mylab.net", "torchlab.Net", "narrows_extra.Net"])
def test_a_module_in_the_current_directory_is_not_imported(target: str, here: Path) -> None:
    refusal({"_target_": target})
    assert not (here / "canary").exists()
    instantiate({"_target_": target})
    assert (here / "canary").exists()


def test_nothing_is_imported_when_one_target_is_refused(here: Path) -> None:
    refusal([{"_target_": "mylab.Net"}, {"_target_": "os.system"}], "mylab")
    assert not (here / "canary").exists()


@pytest.mark.parametrize("target", ["mylab.Net", "mylab.net"])
def test_a_package_that_the_user_names_is_accepted(target: str, here: Path) -> None:
    require_trusted(config_of({"_target_": target}), ["mylab"])
    require_trusted(config_of({"_target_": target}), "mylab")  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["mylab.os.system", "mylab.os.path.join", "mylab.write_atomically"])
def test_what_such_a_package_imports_is_not(target: str, here: Path) -> None:
    assert ", which is of " in refusal({"_target_": target}, "mylab")


def test_a_package_is_permitted_by_its_whole_name(here: Path) -> None:
    refusal({"_target_": "mylab.Net"}, "my")
    refusal({"_target_": "mylab.Net"}, "mylab.nets")
    assert "no name of a package" in refusal({"_target_": "mylab.Net"}, "*")
    assert "cannot import 'mylab.Nothing'" in refusal({"_target_": "mylab.Nothing"}, "mylab")


def test_lightning_s_own_checkpoints_can_be_permitted() -> None:
    require_trusted(config_of({"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}), ["lightning"])


# ── what is accepted ────────────────────────────────────────────────────────────────────────────────────


def resolved(config: DictConfig) -> DictConfig:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return OmegaConf.create({key: value for key, value in values.items() if key not in ("sweep", "hydra")})


def shipped_targets() -> set[str]:
    """Every `_target_` of the configs, but those the parts that no recorded config has."""
    found: set[str] = set()
    for path in config_dir().rglob("*.yaml"):
        if path.relative_to(config_dir()).parts[0] == "sweep":
            continue
        config = OmegaConf.load(path)
        assert isinstance(config, DictConfig)
        for key in ("hydra", "sweep"):
            config.pop(key, None)
        found |= {node._target_ for _, node in targets(config)}
    return found


def test_every_target_of_the_shipped_configs_is_accepted() -> None:
    assert len(shipped_targets()) > 50
    for target in shipped_targets():
        require_trusted(config_of({"_target_": target}))


@pytest.mark.parametrize("name", ["variant=linear", "variant=sequential_vae", "experiment=keras/conv", "logger=wandb"])
def test_a_whole_config_is_accepted(name: str) -> None:
    require_trusted(resolved(composed(name)))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["variant", "experiment", "datamodule"])
def test_every_recipe_is_accepted(group: str) -> None:
    folder = config_dir() / group
    for path in sorted(folder.rglob("*.yaml")):
        choice = path.relative_to(folder).with_suffix("").as_posix()
        needed = ["datamodule.source.path=here"] if choice in ("arrays", "image_folder") else []
        require_trusted(resolved(composed(f"{group}={choice}", *needed)))


@pytest.mark.parametrize(
    "target",
    [
        *("torch.nn.Linear", "torch.nn.modules.linear.Linear", "torch.optim.RMSprop", "torch.optim.NAdam"),
        *("torch.optim.lr_scheduler.ReduceLROnPlateau", "torchvision.transforms.v2.RandomHorizontalFlip"),
        *("lightning.Trainer", "lightning.pytorch.Trainer", "lightning.pytorch.callbacks.LearningRateMonitor"),
        *(
            "lightning.pytorch.strategies.DDPStrategy",
            "narrows.encoders.mlp.MLPEncoder",
            "narrows.training.mlflow",
        ),
        "narrows.data.Arrays",
    ],
)
def test_components_of_the_libraries_are_accepted(target: str) -> None:
    require_trusted(config_of({"_target_": target, "_partial_": True}))


def test_a_component_that_does_not_exist_is_named() -> None:
    assert "did you mean 'MLPEncoder'?" in refusal({"_target_": "narrows.encoders.mlp.MLPEncode"})
    assert "cannot import 'narrows.encoders.mlpp'" in refusal({"_target_": "narrows.encoders.mlpp.MLPEncoder"})


def test_loggers_that_talk_to_servers_can_be_left_out() -> None:
    config = resolved(composed("logger=mlflow", "logger.mlflow.tracking_uri=http://elsewhere"))
    kept, dropped = without_foreign_loggers(config)
    assert (list(kept.logger), dropped) == (["csv", "tensorboard"], ["mlflow"])
    assert "mlflow" in config.logger
    own = resolved(composed())
    assert without_foreign_loggers(own) == (own, [])


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
HOLLOW_BOMB = "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
FILES = {
    "environment": ("x: ${oc.env:HOME}", "x refers to something (${oc.env:HOME})"),
    "reference": ("x: 1\ny: ${x}", "y refers to something"),
    "python": ("x: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    "a path": ("x: !!python/object/apply:pathlib.Path ['a']", "is not valid YAML"),
    "bytes": ("x: !!binary aGVsbG8=", "of type bytes"),
    "a bomb": (BOMB, "uses YAML aliases"),
    "a hollow bomb": (HOLLOW_BOMB, "uses YAML aliases"),
    "deep": ("x: " + "[" * 150 + "]" * 150, "is nested too deeply"),
    "deeper": ("x: " + "[" * 500, "is not valid YAML"),
    "empty": ("", "holds no keys"),
    "a list": ("[1, 2]", "holds no keys"),
    "hydra": ("hydra: {launcher: {_target_: os.system}}", "it has 'hydra'"),
    "defaults": ("defaults: [encoder: mlp]", "it has 'defaults'"),
    "large": ("x: " + "a" * (5 * 2**20), "longer than 4 MB"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_config_that_is_none_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text, sentence = FILES[name]
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not text"):
        read_config(tmp_path / "binary.yaml")


def test_a_recorded_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = resolved(composed("optimizer.lr=1e-4", "datamodule.source.train_labels=[1,2]"))
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_a_stranger_s_run_is_not_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = resolved(composed())
    config.encoder.widths = [{"_target_": "shutil.copyfile", "_args_": [script(canary), str(canary)]}]
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"encoder\.widths\[0\]\._target_: 'shutil\.copyfile' .* --allow shutil"):
        narrows.load(tmp_path)
    assert not canary.exists()


def test_reading_a_config_imports_nothing_heavy() -> None:
    program = (
        "import sys, narrows.loading.permitted_classes; "
        "print(sorted({'torch', 'lightning', 'torchvision'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_every_room_exists() -> None:
    for room in permitted_classes.ROOMS:
        place = Path(narrows.__file__).parent.joinpath(*room.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), "a room that nobody has is stale"
