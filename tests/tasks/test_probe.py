"""The label-efficiency curve: labelled rows drawn as they should be, networks trained on a copy, known answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NO_TASKS, TINY, run_in_process
from instances import model as small_model
from tasks.standins import PPCA, Rows, context

from narrows.commands import evaluate
from narrows.errors import UserError
from narrows.tasks.base import run_tasks
from narrows.tasks.measures.embeddings import fit_probe
from narrows.tasks.probe import Classifier, Probe, labelled
from narrows.types import Batch, DataSpec


def clusters(permuted: bool = False) -> tuple[PPCA, Rows]:
    """Four clusters in the plane that the model's latents are."""
    truth = PPCA(dims=6, latents=2, sigma=0.05)
    centres = torch.tensor([[3.0, 3.0], [3.0, -3.0], [-3.0, 3.0], [-3.0, -3.0]])

    def split(n: int) -> Batch:
        label = torch.arange(n) % 4
        x = (centres[label] + 0.3 * torch.randn(n, 2)) @ truth.weight.T + truth.bias
        return Batch(x=x, label=label[torch.randperm(n)] if permuted else label)

    return truth, Rows({"train": split(200), "test": split(400)}, batch_size=64, num_classes=4)


def test_separable_clusters_are_told_from_one_label_each() -> None:
    truth, data = clusters()
    task = Probe(sizes=[4, 40], draws=2, steps=5)
    found = run_tasks({"f": task}, context(truth.model(), data))
    assert set(task.figures) <= set(found)
    for size in ("4", "40", "all"):
        for kind in ("probe", "raw/probe", "pca/probe"):
            assert found[f"test/probe/{size}_labels/{kind}"] == 1, (size, kind)
            assert found[f"test/probe/{size}_labels/{kind}_stderr"] == 0
    # Its weights lie outside a run's directory: there is no config to start anew from.
    assert not [key for key in found if "scratch" in key]


def test_permuted_labels_are_chance() -> None:
    truth, data = clusters(permuted=True)
    found = run_tasks({"f": Probe(sizes=[], networks=False)}, context(truth.model(), data))
    for kind in ("probe", "raw/probe", "pca/probe"):
        assert found[f"test/probe/all_labels/{kind}"] == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 400))
    p = found["test/probe/all_labels/probe"]
    assert found["test/probe/all_labels/probe_stderr"] == pytest.approx(np.sqrt(p * (1 - p) / 399))
    assert not [key for key in found if "finetuned" in key]


def test_the_standard_error_is_over_the_draws() -> None:
    truth, data = clusters(permuted=True)
    found = run_tasks({"f": Probe(sizes=[8], draws=3, networks=False)}, context(truth.model(), data))
    alone = [
        run_tasks({"f": _OneDraw(number)}, context(truth.model(), data))["test/probe/8_labels/raw/probe"]
        for number in range(3)
    ]
    assert len(set(alone)) > 1
    assert found["test/probe/8_labels/raw/probe"] == pytest.approx(np.mean(alone))
    assert found["test/probe/8_labels/raw/probe_stderr"] == pytest.approx(np.std(alone, ddof=1) / np.sqrt(3))


class _OneDraw(Probe):
    """The draw of that number alone."""

    def __init__(self, number: int) -> None:
        super().__init__(sizes=[8], draws=1, networks=False)
        self.number = number

    def _judge(self, context, train, test, chosen, draw):  # type: ignore[no-untyped-def]
        mine = labelled(train["label"], len(chosen), context.seed, self.number)
        return super()._judge(context, train, test, mine, self.number)


def test_labelled_rows_are_even_over_the_classes_and_new_in_every_draw() -> None:
    label = np.array([0] * 50 + [1] * 30 + [2] * 3)
    chosen = labelled(label, 20, seed=0, draw=0)
    assert len(set(chosen)) == 20
    assert sorted(np.bincount(label[chosen])) == [3, 8, 9]
    assert not np.array_equal(chosen, labelled(label, 20, seed=0, draw=1))
    assert np.array_equal(chosen, labelled(label, 20, seed=0, draw=0))
    assert np.array_equal(labelled(label, len(label), seed=0, draw=0), np.arange(len(label)))


def test_a_network_learns_and_the_run_s_model_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    label = torch.arange(240) % 2
    x = 0.2 * torch.rand(240, 1, 8, 8)
    x[label == 1, :, 2] += 0.6
    split = Batch(x=x, label=label)
    data = Rows(dict.fromkeys(("train", "test"), split), batch_size=64, kind="image", num_classes=2)
    network = small_model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    task = Probe(sizes=[10, 10_000], draws=1, steps=40)
    with caplog.at_level("INFO"):
        found = run_tasks({"f": task}, context(network, data))
    assert found["test/probe/all_labels/finetuned"] == 1
    assert found["test/probe/10_labels/finetuned"] > 0.9
    assert not [key for key in found if "10000" in key]
    assert "those below the 240 training rows" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.grad is not None for parameter in network.parameters())
    assert run_tasks({"f": task}, context(network, data)) == found, "the same question, the same answer"


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [1, 3], [2]])
def test_a_network_starts_as_the_probe(classes: list[int]) -> None:
    truth, data = clusters()
    model, train = truth.model(), data.splits["train"]
    kept = torch.isin(train.label, torch.tensor(classes))
    codes, label = model.embed(train.x[kept]).numpy(), train.label[kept].numpy()
    probe = fit_probe(codes, label)
    network = Classifier(model, 4)
    network.start_from(probe)
    logits = network(data.splits["test"].x)
    told = probe.tell(model.embed(data.splits["test"].x).numpy())
    assert np.array_equal(logits.argmax(1).numpy(), told)
    assert set(told) == set(classes)


def test_on_a_real_run_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("encoder.widths=[8]", "decoder.widths=[8]", "hydra.run.dir=run")
    done = run_in_process(*TINY, *options, *NO_TASKS, cwd=tmp_path)
    assert done.code == 0, done.err
    run = tmp_path / "run"
    weights = (run / "checkpoints" / "best.ckpt").read_bytes()
    evaluate.main([str(run), "task=probe", "task.sizes=[10]", "task.draws=2", "task.steps=20", "task.epochs=1"])
    figures = json.loads((run / "tasks" / "probe.json").read_text())["figures"]
    assert {f"test/probe/10_labels/{kind}" for kind in ("finetuned", "scratch/finetuned")} <= set(figures)
    assert figures["test/probe/all_labels/raw/probe"] > 0.9
    assert (run / "figures" / "label_efficiency.png").is_file()
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == weights
    printed = capsys.readouterr().out
    assert "accuracy with 10 labels: linear probe" in printed
    assert "from scratch" in printed


def test_what_it_does_not_fit_and_options_out_of_range() -> None:
    assert Probe().fits(DataSpec((5,), "vector", 9), small_model()) == "the data have no labels"
    factors = DataSpec((5,), "vector", 9, factor_names=["a"], factor_sizes=[2])
    assert Probe().fits(factors, small_model()) == "the labels are factors, not classes"
    for option, value, said in (
        ("sizes", [1], "sizes must be at least 2, not 1"),
        ("draws", 0, "draws must be at least 1"),
        ("steps", 0, "steps must be at least 1"),
        ("rate", 0, "rate must be above 0"),
        ("max_rows", 1, "max_rows must be at least 2"),
    ):
        with pytest.raises(UserError, match=said):
            Probe(**{option: value})
