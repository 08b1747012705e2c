"""Where a file ends, and where it must end: cuts are seen, whole files are not accused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvar.extraction.probe.truncation import _CHECKS, cut_short

FORMATS = {
    "plain.mkv": "matroska,webm",
    "plain.webm": "matroska,webm",
    "plain.ts": "mpegts",
    "plain.ogv": "ogg",
    "plain.flv": "flv",
    "plain.wmv": "asf",
    "indexed.mp4": "mov,mp4,m4a,3gp,3g2,mj2",
}
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


@pytest.mark.parametrize("name", [*FORMATS, "fragments.mp4", "plain.mp4", "live.mkv"])
def test_whole_files_are_whole(samples: Path, name: str) -> None:
    """A file that nobody cut gets no reason, live streams included."""
    kind = MP4 if name.endswith("mp4") else FORMATS.get(name, "matroska,webm")
    assert cut_short(samples / name, kind) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_is_seen(samples: Path, tmp_path: Path, name: str) -> None:
    """However few bytes are missing at the end, the structure shows it.

    Containers that say beforehand how long they are, or mark their end, show a cut anywhere.
    """
    whole = (samples / name).read_bytes()
    path = tmp_path / name
    # The last 100 bytes of the WMV are of the index behind the frames.
    lengths = [len(whole) - n for n in (1, 2, 60, 187, 1000) if n > 100 or name != "plain.wmv"]
    if name not in {"plain.ts", "plain.flv"}:
        lengths += [len(whole) * percent // 100 for percent in range(50, 100, 7)]
    for length in lengths:
        path.write_bytes(whole[:length])
        assert (cut_short(path, FORMATS[name]) or "").startswith("it is cut short"), length


def test_a_transport_stream_may_begin_anywhere(samples: Path, tmp_path: Path) -> None:
    """A recording that begins within a packet is whole when it ends with one; with time stamps too."""
    whole = (samples / "plain.ts").read_bytes()
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    path = tmp_path / "x.ts"
    for data in (whole[100:], b"".join(b"\x00\x00\x00\x01" + packet for packet in packets)):
        path.write_bytes(data)
        assert cut_short(path, "mpegts") is None
        path.write_bytes(data[:-7])
        assert cut_short(path, "mpegts") is not None


@pytest.mark.parametrize("name", sorted(_CHECKS))
@given(data=st.binary(max_size=400), keep=st.integers(0, 40))
def test_any_bytes_get_an_answer(
    samples: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, keep: int
) -> None:
    """Whatever a file holds, the check ends with an answer and without an exception."""
    beginning = next(sample for sample, kind in FORMATS.items() if kind == name)
    path = tmp_path_factory.getbasetemp() / f"noise {beginning}"
    path.write_bytes((samples / beginning).read_bytes()[:keep] + data)
    answer = cut_short(path, name)
    assert answer is None or answer.startswith("it is cut short")


def test_other_formats_are_not_judged(samples: Path) -> None:
    """A container that says nothing about its end gets no reason here."""
    assert cut_short(samples / "b frames.avi", "avi") is None
