"""The networks, one file for each family: how it is built and where it is cut.

To add a family, write a file in this folder with what `Family` lists; ``--backbone`` then accepts its names.
"""

import pkgutil
from importlib import import_module
from typing import Protocol, cast

from fvar.model.backbone import Backbone


class Family(Protocol):
    """What a file in this folder defines.

    Attributes:
        NAMES: Its networks, a tuple of string literals: `fvar --help` reads it without running the file.
            ImageNet weights are available for names that torchvision knows.
    """

    NAMES: tuple[str, ...]

    def cut(self, name: str, stage: int) -> Backbone:
        """Return the network `name` with fresh parameters and no classifier, cut after `stage`, 1 to 4."""


def cut_backbone(name: str, *, stage: int) -> Backbone:
    """Build the network `name` with fresh parameters, drop its classifier and cut it after `stage` (1..4).

    Raises:
        ValueError: `stage` is not 1, 2, 3 or 4, or no family has the name.
    """
    if stage not in (1, 2, 3, 4):
        raise ValueError(f"stage {stage}: must be 1, 2, 3 or 4")
    for file in pkgutil.iter_modules(__path__):
        family = cast("Family", import_module(f"{__name__}.{file.name}"))
        if name in family.NAMES:
            return family.cut(name, stage)
    raise ValueError(f"backbone {name}: no file in fvar/model/networks lists it in NAMES")
