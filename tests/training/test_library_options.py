"""Options of torch's and Lightning's classes that mean nothing are refused, or said to do nothing."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from narrows.errors import UserError
from narrows.training.library_options import check_scheduler_options, check_trainer_options, late_milestones

MULTISTEP, COSINE = "MultiStepLR", "CosineAnnealingLR"
WRONG = [
    *(
        (MULTISTEP, "milestones", value)
        for value in ("abc", ["abc"], [], [30, 20], [5, 5], [0, 3], [-1], [1.5], [True], 3)
    ),
    *((MULTISTEP, "milestones", value) for value in (None, ["1", "2"])),
    *((COSINE, "T_max", value) for value in (-1, 0, None, "ten", True)),
    *(("ConstantLR", "total_iters", value) for value in (-1, 0.5)),
    *(("LinearLR", "total_iters", value) for value in (-1, 0)),
    *(("StepLR", "step_size", value) for value in (0, -3)),
]


@pytest.mark.parametrize(("kind", "option", "value"), WRONG)
def test_a_scheduler_that_never_acts_is_refused(kind: str, option: str, value: Any) -> None:
    node = OmegaConf.create({"_target_": f"torch.optim.lr_scheduler.{kind}", option: value})
    with pytest.raises(UserError, match=rf"^scheduler\.{option} must be"):
        check_scheduler_options(node)


@pytest.mark.parametrize(
    ("option", "value"),
    [("log_every_n_steps", 0), ("log_every_n_steps", -1), ("num_sanity_val_steps", -2), ("check_val_every_n_epoch", 0)],
)
def test_numbers_of_the_trainer_that_mean_nothing_are_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.{option} must be at least"):
        check_trainer_options(OmegaConf.create({option: value}))
    check_trainer_options(OmegaConf.create({option: 1}))


@pytest.mark.parametrize("value", [[1], [30, 40], [200, 350, 500]])
def test_milestones_beyond_the_run_are_named(value: list[int]) -> None:
    def run(last: int | None) -> Any:
        scheduler = {"_target_": f"torch.optim.lr_scheduler.{MULTISTEP}", "milestones": value}
        return OmegaConf.create({"trainer": {"max_epochs": last}, "scheduler": scheduler})

    check_scheduler_options(run(50).scheduler)
    assert late_milestones(run(value[-1] + 1)) == []
    assert late_milestones(run(None)) == late_milestones(run(-1)) == []
    (line,) = late_milestones(run(value[0]))
    assert f"milestones {', '.join(map(str, value))}: never reached" in line
    assert f"max_epochs={value[0]}" in line
