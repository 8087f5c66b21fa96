"""Frozen, pretrained networks: what they see, and that nothing of training knows of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn
from torchvision import models

from narrows.encoders import TorchvisionEncoder
from narrows.errors import UserError
from narrows.layers import FeatureNetwork, feature_networks

CATS, COFFEE = {281, 282, 285}, {504, 967, 968}
"""Classes of ImageNet: tabby, tiger and Egyptian cat; mug, espresso, cup."""


def picture(name: str) -> Tensor:
    """The middle of a picture of scikit-image, `[1, 3, 224, 224]`."""
    x = torch.tensor(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    height, width = x.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return F.interpolate(x[..., top : top + side, left : left + side], (224, 224), mode="bilinear", antialias=True)


def test_lite0_tells_a_cat_from_a_cup() -> None:
    file = feature_networks._file_of_wheel("test")
    state = torch.load(file, map_location="cpu", weights_only=True)
    with torch.no_grad():
        (features,) = FeatureNetwork(layers=["head"])(torch.cat([picture("chelsea"), picture("coffee")]))
        classes = F.linear(features.mean((2, 3)), state["_fc.weight"], state["_fc.bias"]).softmax(1)
    assert features.shape == (2, 1280, 7, 7)
    assert classes[0, list(CATS)].sum() > 0.7
    assert classes[1, list(COFFEE)].sum() > 0.7


def test_a_feature_network_has_no_state_and_lets_gradients_through() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.own = FeatureNetwork(layers=["stage2"]), nn.Linear(1, 1)

    module = Around().train().requires_grad_(True)
    assert set(module.state_dict()) == {"own.weight", "own.bias"}
    assert len(list(module.parameters())) == 2
    assert list(module.buffers()) == []
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    (before,) = module.features(x)
    before.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    (after,) = module.features(x)
    assert torch.equal(before, after)  # no running statistic has moved
    (double,) = module.double().features(x.double())
    torch.testing.assert_close(double.float(), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [32, 33, 40])
def test_layers_come_in_the_asked_order_with_their_channels(side: int) -> None:
    network = FeatureNetwork(layers=["stage3", "stem", "stage1"])
    found = network(torch.rand(2, 3, side, side))
    assert network.channels == tuple(x.shape[1] for x in found) == (40, 32, 16)
    assert [x.shape[2] for x in found] == [-(-side // 8), -(-side // 2), -(-side // 2)]


def test_grey_and_small_pictures() -> None:
    x = torch.rand(2, 1, 16, 16)
    grey, colour = (FeatureNetwork(layers=["stage1"])(v)[0] for v in (x, x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(grey, colour)
    assert FeatureNetwork(layers=["stage1"], size=64)(x)[0].shape == (2, 16, 32, 32)
    with pytest.raises(UserError, match="reads pictures of one or three channels"):
        FeatureNetwork(layers=["stem"])(torch.rand(2, 2, 16, 16))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vgg16"])
def test_torchvision_s_networks_read_a_local_file(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):  # VGG's classifier alone is half a gigabyte
        whole: Any = models.get_model(name).eval()
    shapes = {key: value for key, value in whole.state_dict().items() if not key.startswith(("classifier", "fc"))}
    draws = torch.Generator().manual_seed(0)
    state = {
        key: torch.rand(value.shape, generator=draws) - (0.0 if "var" in key else 0.5) if value.ndim else value + 1
        for key, value in ((key, torch.zeros(value.shape, dtype=value.dtype)) for key, value in shapes.items())
    }
    state = {key: value / value[0].numel() ** 0.5 if value.ndim > 1 else value for key, value in state.items()}
    whole.load_state_dict(state, strict=False, assign=True)
    torch.save(state, tmp_path / "weights.pth")
    before = torch.random.get_rng_state()
    network = FeatureNetwork(name, weights=str(tmp_path / "weights.pth"))
    assert torch.equal(torch.random.get_rng_state(), before)
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (feature_networks.MEAN, feature_networks.STD))
    with torch.no_grad():
        seen = (x - mean) / std
        if name == "resnet18":
            for layer in (whole.conv1, whole.bn1, whole.relu, whole.maxpool):
                seen = layer(seen)
            for layer in (whole.layer1, whole.layer2, whole.layer3, whole.layer4):
                seen = layer(seen)
        else:
            last = {"vgg16": 30, "efficientnet_b0": 8}[name]
            seen = whole.features[:last](seen)
        torch.testing.assert_close(network(x)[-1], seen, rtol=1e-3, atol=1e-3 * float(seen.abs().max()))
    assert len(network.channels) == 5


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for options, said in (
        ({"name": "resnet81"}, "no network 'resnet81'.*resnet18"),
        ({"layers": ["stage9"]}, "no layer 'stage9'"),
        ({"layers": []}, "names no layer"),
        ({"size": 0}, "size must be at least 1"),
        ({"weights": str(tmp_path / "none.pth")}, "is no file"),
        ({"weights": str(tmp_path / "other.pth")}, "it lacks _conv_stem.weight"),
        ({"weights": str(tmp_path / "text.pth")}, "can be read safely"),
    ):
        with pytest.raises(UserError, match=said):
            FeatureNetwork(**options)  # type: ignore[arg-type]
    monkeypatch.setattr(feature_networks, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'narrows\[features\]' brings"):
        FeatureNetwork()


def test_a_failed_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"resnet18-.* could not be downloaded .*give weights= a local file"):
        FeatureNetwork("resnet18")


def test_the_encoder_reads_the_same_files(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"encoder torchvision.weights of resnet18: .* does not fit: it lacks"):
        TorchvisionEncoder((3, 32, 32), weights=str(tmp_path / "other.pth"))


def test_the_wheel_is_at_hand() -> None:
    assert find_spec(feature_networks.WHEEL) is not None, "the extra `features` is part of the tests' environment"
