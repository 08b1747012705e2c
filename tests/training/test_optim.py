"""The optimizer's parameter groups, and the learning rate over a training."""

import pytest
import torch
from torch import nn
from training_samples import tiny_config

from fvar.model.build import build_recognizer
from fvar.model.recognizer import Recognizer
from fvar.training.optim import build_optimizer, build_scheduler

LR, DECAY = 0.01, 5e-4


def _recognizer(backbone: str = "tiny", *, freeze_stem: bool = False) -> Recognizer:
    return build_recognizer(tiny_config(backbone=backbone, freeze_stem=freeze_stem), num_classes=3)


def _optimizer(recognizer: Recognizer) -> torch.optim.SGD:
    return build_optimizer(recognizer, lr=LR, momentum=0.9, weight_decay=DECAY)


def _table(recognizer: Recognizer, optimizer: torch.optim.SGD) -> dict[str, tuple[float, float]]:
    """Return each parameter's factor on the rate and its weight decay, by name."""
    names = {id(parameter): name for name, parameter in recognizer.named_parameters()}
    rates: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in rates, "a parameter in two groups"
            rates[names[id(parameter)]] = (round(group["lr"] / LR, 6), group["weight_decay"])
    return rates


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
def test_every_parameter_has_the_rate_of_its_kind(backbone: str) -> None:
    """TSM's rule: classifier weight 5 and bias 10 times the rate; norms and biases without decay."""
    recognizer = _recognizer(backbone)
    rates = _table(recognizer, _optimizer(recognizer))
    assert rates.keys() == {name for name, _ in recognizer.named_parameters()}
    assert rates.pop("classifier.weight") == (5, DECAY)
    assert rates.pop("classifier.bias") == (10, 0)
    for name, rate in rates.items():
        owner = recognizer.get_submodule(name.rpartition(".")[0])
        assert rate == ((1, 0) if isinstance(owner, nn.BatchNorm2d) else (1, DECAY)), name


def test_other_biases_go_twice_as_fast() -> None:
    """A convolution's bias, which these networks lack, has twice the rate and no decay."""
    recognizer = _recognizer()
    recognizer.backbone.network.extra = nn.Conv2d(2, 2, 1)
    rates = _table(recognizer, _optimizer(recognizer))
    assert rates["backbone.network.extra.bias"] == (2, 0)
    assert rates["backbone.network.extra.weight"] == (1, DECAY)


def test_frozen_parameters_are_left_out() -> None:
    """What does not train is in no group."""
    recognizer = _recognizer(freeze_stem=True)
    rates = _table(recognizer, _optimizer(recognizer))
    assert rates.keys() == {n for n, p in recognizer.named_parameters() if p.requires_grad}
    assert not any(name.startswith("backbone.network.layer1") for name in rates)
    assert any(name.startswith("backbone.network.layer2") for name in rates)


def _course(schedule: str, milestones: tuple[int, ...], steps: list[int]) -> list[list[float]]:
    """Return the groups' rates at every step of a training."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": [parameters[0]], "lr": 1.0}, {"params": [parameters[1]], "lr": 5.0}], lr=1.0
    )
    scheduler = build_scheduler(optimizer, schedule=schedule, milestones=milestones, steps=steps)
    course = []
    for _ in range(sum(steps)):
        course.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return course


def test_step_schedule_falls_by_ten_after_its_epochs() -> None:
    """With 3, 2, 4 and 1 steps an epoch and milestones 1 and 3: tenths after 3 and after 9 steps."""
    course = _course("step", (1, 3), [3, 2, 4, 1])
    assert [rate for rate, _ in course] == pytest.approx([1] * 3 + [0.1] * 6 + [0.01])


def test_one_cycle_rises_and_falls_once() -> None:
    """The peak is the rate itself, after 30 % of the steps; it starts at 1/25 and ends near nothing."""
    rates = [rate for rate, _ in _course("one-cycle", (), [10] * 10)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1)
    assert peak == 29
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[-1] < 1e-3
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["one-cycle", "step"])
def test_groups_keep_their_ratio(schedule: str) -> None:
    """The classifier's five times stays five times all along."""
    course = _course(schedule, (1,) if schedule == "step" else (), [4, 4])
    assert [b / a for a, b in course] == pytest.approx([5] * 8)


@pytest.mark.parametrize("steps", [[1], [2], [1, 1], [3]])
def test_shortest_trainings_have_a_schedule(steps: list[int]) -> None:
    """A training of one step can be scheduled."""
    assert len(_course("one-cycle", (), steps)) == sum(steps)
