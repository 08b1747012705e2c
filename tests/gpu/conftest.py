"""Where the checks of this folder run: on a GPU; without one they are skipped.

``GPU_CHECKS_ON=cpu`` runs those that need no GPU's own features on a CPU, to try the checks themselves.
"""

import os

import pytest
import torch

DEVICE = torch.device(os.environ.get("GPU_CHECKS_ON", "cuda"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU, and torch finds none"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return the device to check."""
    return DEVICE


@pytest.fixture(scope="session")
def gpu(device: torch.device) -> torch.device:
    """Return the GPU to check."""
    if device.type != "cuda":
        pytest.skip("needs a GPU's own features")
    return device
