"""Every datamodule yaml composes, builds without touching a file, and lists every constructor argument."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from narrows.config.hydra_versions import VERSION_BASE, instantiate
from narrows.data.datamodule import DataModule

GROUP = Path(__file__).resolve().parents[2] / "configs" / "datamodule"
NAMES = sorted(path.stem for path in GROUP.glob("*.yaml"))
# Whose files may lie in more ways than eight options tell, or hold pictures or numbers; and films that are generated,
# with what is odd in them.
MORE = {
    "narrows.data.Arrays": 9,
    "narrows.data.DataModule": 10,
    "narrows.data.HuggingFace": 11,
    "narrows.data.MovingDigits": 9,
    "narrows.data.Series": 12,
}
NEEDS_PATH = (
    "arrays",
    "audio",
    "counts",
    "documents",
    "huggingface",
    "image_folder",
    "image_shards",
    "interactions",
    "molecules",
    "music",
    "table",
    "text",
    "video",
    "volumes",
)
PRIMARY = """
defaults:
  - likelihood: laplace
  - input: identity
  - encoder: mlp
  - decoder: mlp
  - datamodule: digits
  - _self_
seed: 7
data_dir: nowhere
"""


BROUGHT = (
    "bernoulli",
    "categorical",
    "gaussian",
    "gaussian_optimal",
    "mixed",
    "multinomial",
    "negative_binomial",
    "parts",
)
"""The likelihoods that datamodules bring."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("configs")
    (root / "datamodule").symlink_to(GROUP)
    (root / "datamodule_defaults.yaml").symlink_to(GROUP.parent / "datamodule_defaults.yaml")
    groups = {
        "likelihood": ("laplace", *BROUGHT),
        "input": ("identity", "log1p", "l2_normalise", "embedding"),
        "encoder": ("mlp", "gru", "conv"),
        "decoder": ("mlp", "gru_ar", "conv"),
    }
    for group, choices in groups.items():
        (root / group).mkdir()
        for name in choices:
            (root / group / f"{name}.yaml").write_text(f"name: {name}\n")
    (root / "train.yaml").write_text(PRIMARY)
    return root


def targets(config: DictConfig) -> list[DictConfig]:
    nested = [value for value in config.values() if isinstance(value, DictConfig)]
    return [config, *(found for value in nested for found in targets(value) if "_target_" in found)]


@pytest.mark.parametrize("name", NAMES)
def test_a_datamodule_yaml(name: str, tree: Path) -> None:
    needed = ["datamodule.source.path=somewhere"] if name in NEEDS_PATH else []
    needed += [
        f"+datamodule.source.parts.{part}={{_target_:narrows.data.Digits,test:0.1,train_labels:null}}"
        for part in "ab"
        if name == "multimodal"
    ]
    needed += ["datamodule.source.run=somewhere"] if name == "latents" else []
    with initialize_config_dir(str(tree), **VERSION_BASE):
        config = compose("train", [f"datamodule={name}", *needed])
        kept = compose("train", [f"datamodule={name}", "likelihood=laplace", *needed])
    assert config.likelihood.name in BROUGHT
    assert kept.likelihood.name == "laplace"
    for node in targets(config.datamodule):
        arguments: Any = set(inspect.signature(get_class(node._target_)).parameters)
        assert set(node) - {"_target_"} == arguments, node._target_
        assert len(arguments) <= MORE.get(node._target_, 8)
    OmegaConf.resolve(config)
    datamodule = instantiate(config.datamodule)
    assert isinstance(datamodule, DataModule)
    assert datamodule.loading.seed == 7


def test_a_composed_datamodule_serves(tree: Path) -> None:
    with initialize_config_dir(str(tree), **VERSION_BASE):
        config = compose("train", ["datamodule=digits", "datamodule.source.train_labels=[3]"])
    batch = next(iter(instantiate(config.datamodule).train_dataloader()))
    assert batch.label.unique().tolist() == [3]
