"""Finding an ffmpeg: the bundled one, or one that can do the work."""

from pathlib import Path

import pytest

from fvar.errors import ConfigError
from fvar.extraction.ffmpeg import find_ffmpeg


def _script(tmp_path: Path, says: str, *, code: int = 0) -> str:
    path = tmp_path / "ffmpeg"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_bundled_one_is_the_default() -> None:
    """Without a path, the ffmpeg that imageio-ffmpeg brings is taken."""
    assert "imageio_ffmpeg" in find_ffmpeg().path


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("ffmpeg version 5.1.6-0+deb12u1 Copyright", "5.1.6-0+deb12u1"),
        ("ffmpeg version n10.0 Copyright", "n10.0"),
        (
            "ffmpeg version N-109542-g1bf1d Copyright\nlibavutil      57. 28.100 /",
            "N-109542-g1bf1d",
        ),
    ],
)
def test_later_ones_are_taken(tmp_path: Path, says: str, version: str) -> None:
    """5.1 and later are taken, builds between releases by their libavutil."""
    assert find_ffmpeg(_script(tmp_path, says)).version == version


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("ffmpeg version 5.0.3 Copyright", "is version 5.0.3, must be 5.1 or later"),
        ("ffmpeg version 4.4.2-0ubuntu0.22.04.1", "is version 4.4.2-0ubuntu0.22.04.1, must"),
        ("ffmpeg version N-1-g1\nlibavutil      57. 17.100", "is version N-1-g1, must be 5.1"),
        ("ffmpeg version git", "is version git, must be 5.1"),
        ("hello", "prints 'hello\\n' for -version"),
    ],
)
def test_others_are_refused(tmp_path: Path, says: str, problem: str) -> None:
    """Older programs, and programs that are not ffmpeg, are refused by what they say."""
    with pytest.raises(ConfigError) as caught:
        find_ffmpeg(_script(tmp_path, says))
    assert problem in str(caught.value)


def test_what_does_not_run_is_refused(tmp_path: Path) -> None:
    """A missing program and one that fails are errors with the flag."""
    with pytest.raises(ConfigError, match=r"--ffmpeg /no/ffmpeg: does not run \(.*No such file"):
        find_ffmpeg("/no/ffmpeg")
    with pytest.raises(ConfigError, match=r"does not run .* exit status 3"):
        find_ffmpeg(_script(tmp_path, "x", code=3))
