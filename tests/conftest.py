"""Fixtures that several test files share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from video_samples import make_samples

from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, find_ffmpeg
from fvar.extraction.probe.pool import ProbePool

# Without deadline, because machines are shared; derandomized, so that every run tries the same examples.
settings.register_profile("fvar", deadline=None, derandomize=True, max_examples=50, print_blob=True)
# For `make mutants`, where what matters is that a test fails, not the smallest example that makes it fail.
settings.register_profile(
    "mutants", settings.get_profile("fvar"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("fvar")

# The networks here are tiny: on a busy machine several threads wait for each other, ten times as long. Set
# before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell starts its background jobs with SIGINT ignored. Python and the processes that it starts inherit
# that, and the Ctrl-C that some tests send would do nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of development data beside the project; skip where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"wants the development data in {folder}")
    return folder


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny videos, whole, odd and broken; nobody writes into it."""
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
def probes() -> Iterator[ProbePool]:
    """Return probes that outlive a test: starting one takes longer than reading most files."""
    with ProbePool() as started:
        yield started


@pytest.fixture(scope="session")
def decode(probes: ProbePool) -> Callable[..., Decoded]:
    """Return a function that decodes one video; it takes the path, an interval and unusual settings."""
    program = find_ffmpeg()

    def run(path: Path, *intervals: tuple[float | None, float | None], **settings: Any) -> Decoded:
        chosen = DecodeSettings(**({"short_side": 32, "quality": 2} | settings))
        (decoded,) = Decoder(program, chosen, probes).decode(path, intervals or [(None, None)])
        return decoded

    return run
