"""SGD with TSM's parameter groups, and the learning rate over the steps of a training."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from fvar.model.conv_bn_fusion import BATCH_NORMS
from fvar.model.recognizer import Recognizer

# As in TSM: the new classifier learns faster than the layers below it, biases faster than weights.
CLASSIFIER_WEIGHT_LR, CLASSIFIER_BIAS_LR, BIAS_LR = 5.0, 10.0, 2.0
STEP_DECAY = 0.1


def build_optimizer(
    recognizer: Recognizer, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """Return SGD over the trainable parameters, in groups with their own learning rate and weight decay.

    Classifier weight 5 lr, classifier bias 10 lr, other biases 2 lr; no weight decay on biases and norms.
    """
    norms = {
        id(parameter)
        for module in recognizer.modules()
        if isinstance(module, (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm))
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in recognizer.named_parameters():
        if parameter.requires_grad:
            factor, decays = _rate(name, in_norm=id(parameter) in norms)
            groups.setdefault((factor * lr, weight_decay if decays else 0.0), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": params, "lr": rate, "weight_decay": decay}
            for (rate, decay), params in groups.items()
        ],
        lr=lr,
        momentum=momentum,
    )


def _rate(name: str, *, in_norm: bool) -> tuple[float, bool]:
    """Return a parameter's factor on the learning rate, and whether it has weight decay."""
    if name == "classifier.weight":
        return CLASSIFIER_WEIGHT_LR, True
    if name == "classifier.bias":
        return CLASSIFIER_BIAS_LR, False
    if in_norm:
        return 1.0, False
    return (BIAS_LR, False) if name.endswith(".bias") else (1.0, True)


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    *,
    schedule: str,
    milestones: Sequence[int],
    steps: Sequence[int],
) -> LRScheduler:
    """Return the learning-rate schedule of a whole training; step it after every optimization step.

    Args:
        optimizer: The rates of its groups are the peaks.
        schedule: ``one-cycle`` (rise over the first 30 % of the steps, cosine fall) or ``step``.
        milestones: For ``step``, the epochs after which the rate is divided by 10.
        steps: Number of optimization steps of each epoch.
    """
    if schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(
            optimizer, max_lr=peaks, total_steps=max(sum(steps), 2), cycle_momentum=False
        )
    reached = [sum(steps[:epoch]) for epoch in milestones if epoch <= len(steps)]
    return MultiStepLR(optimizer, reached, gamma=STEP_DECAY)
