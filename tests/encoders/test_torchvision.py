"""Classifiers of torchvision as encoders: the network's own features, whatever file they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from instances import IMAGE, batch, model
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision import models

from narrows.encoders.torchvision import MEAN, STD, TorchvisionEncoder
from narrows.errors import UserError
from narrows.layers.blocks import BatchNorm
from narrows.loading.model_from_config import without_start
from narrows.losses.geometry import Contraction

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """The network as somebody trained it: running statistics that are not those of a new one."""
    torch.manual_seed(3)
    network = models.get_model(NAME)
    for _ in range(3):
        network(torch.rand(4, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def file(published: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(published.state_dict(), path)
    return path


def features(network: nn.Module, x: Tensor) -> Tensor:
    """What the classifier's last layer reads."""
    seen: list[Tensor] = []
    handle = network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(x)
    handle.remove()
    return seen[0]


def test_it_is_the_network_without_its_last_layer(published: nn.Module, file: Path) -> None:
    encoder = TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(file)).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(encoder(x), features(published, x))
    assert encoder.out_shape == (1024,)
    normal = TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(file), normalise=True).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(normal(x), features(published, (x - mean) / std))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equal_channels_are_the_grey_picture(published: nn.Module, file: Path, channels: int) -> None:
    encoder = TorchvisionEncoder((channels, 32, 32), name=NAME, weights=str(file)).eval()
    grey = torch.rand(2, 1, 32, 32)
    expected = features(published, grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(encoder(grey.expand(-1, channels, -1, -1)), expected)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0"])
def test_families_lose_their_classifier_and_keep_their_features(name: str) -> None:
    encoder = TorchvisionEncoder((1, 28, 28), name=name)
    assert encoder.out_shape != (1000,)
    assert not any(getattr(layer, "out_features", 0) == 1000 for layer in encoder.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in encoder.modules())
    encoder.train()(torch.rand(1, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_frozen_is_frozen(file: Path) -> None:
    encoder = TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(file), freeze=True).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    x = torch.rand(4, 3, 32, 32)
    out = encoder(x)
    torch.testing.assert_close(encoder(x[:1]), out[:1])
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
    assert not any(p.requires_grad for p in encoder.parameters())
    loose = TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(file)).train()
    loose(x)
    assert not torch.equal(loose.network.conv1[1].running_mean, before["network.conv1.1.running_mean"])
    assert isinstance(loose.network.conv1[1], BatchNorm)


def spoil(state: dict[str, Tensor], how: str) -> object:
    if how == "lacks":
        del state["conv1.0.weight"]
    if how == "has":
        state["mine"] = torch.zeros(1)
    if how == "shape":
        state["conv1.0.weight"] = torch.zeros(24, 1, 3, 3)
    return [1, 2] if how == "list" else state


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("lacks", "it lacks conv1.0.weight"),
        ("has", "it has mine, which the model has not"),
        ("shape", r"its conv1.0.weight is \[24, 1, 3, 3\], not \[24, 3, 3, 3\]"),
        ("list", "holds no state dict"),
        ("text", "no file of weights that can be read safely"),
        ("pickle", "no file of weights that can be read safely"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(how: str, sentence: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.pth"
    if how == "text":
        path.write_text("no weights")
    elif how == "pickle":
        torch.save(nn.Linear(2, 2), path)
    else:
        torch.save(spoil(torch.load(file, weights_only=True), how), path)
    with pytest.raises(UserError, match=sentence) as caught:
        TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_the_classifier_will_do(file: Path, tmp_path: Path) -> None:
    state = {key: value for key, value in torch.load(file, weights_only=True).items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "body.pth")
    built = [TorchvisionEncoder((3, 32, 32), name=NAME, weights=str(path)) for path in (file, tmp_path / "body.pth")]
    torch.testing.assert_close(built[0].state_dict(), built[1].state_dict(), rtol=0, atol=0)


def test_a_published_name_is_handed_to_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    get_model = models.get_model

    def offline(name: str, weights: object = None) -> nn.Module:
        asked.append(weights)
        return get_model(name)

    monkeypatch.setattr(models, "get_model", offline)
    TorchvisionEncoder((3, 32, 32), name=NAME, weights="IMAGENET1K_V1")
    assert asked == ["IMAGENET1K_V1"]


@pytest.mark.parametrize("training", [True, False])
def test_contraction_reaches_through_it(training: bool) -> None:
    net = model(encoder=TorchvisionEncoder).train(training)
    out = net(batch(IMAGE, n=3))
    Contraction()(out, net).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.encoder.parameters() if p.grad is not None)
    with torch.no_grad():
        assert Contraction()(out, net).shape == (3,)


def test_a_trained_model_is_loaded_without_the_file_it_started_from() -> None:
    place = "narrows.encoders.torchvision.TorchvisionEncoder"
    config = OmegaConf.create({"encoder": {"_target_": place, "name": NAME, "weights": "/gone.pth"}})
    assert OmegaConf.to_container(without_start(config)) == {
        "encoder": {"_target_": place, "name": NAME, "weights": None}
    }
    config = OmegaConf.create({"encoder": {"_target_": "narrows.encoders.mlp.MLPEncoder", "widths": [3]}})
    assert without_start(config).encoder.widths == [3]
