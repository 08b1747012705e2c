"""``docs/python.md``: its code runs from top to bottom, as a reader would type it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fvar.config import ToyConfig
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import make_toy

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    """All code blocks in one process, and the figures that they print are those of the toy set."""
    toy = ToyConfig(clips_per_class=3, frames=16, size=64, informative=8)
    make_toy(tmp_path / "toy", toy, SilentReporter())
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"256 frames; top-1 \d+%, in run/train/eval-test", lines[0])
    assert "(8, 64, 7, 7)" in lines
    assert sum(" ok (" in line for line in lines) == 16


def test_importing_takes_no_torch() -> None:
    """`import fvar` and its list of names load neither torch nor numpy; an unknown name is an error."""
    code = (
        "import sys, fvar\n"
        "assert 'cluster_frames' in dir(fvar) and fvar.__version__\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "try:\n    fvar.classify\nexcept AttributeError as error:\n    assert 'classify' in str(error)\n"
        "else:\n    raise SystemExit('an unknown name is no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
