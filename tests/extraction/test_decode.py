"""Decoding: every frame with its time, and a verdict that is never better than the truth."""

import csv
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg
from fvar.extraction.probe.pool import ProbePool
from fvar.processes import ChildProcesses
from fvar.store.encoded_video import EncodedVideo

Decode = Callable[..., Decoded]


@pytest.fixture
def decode(samples: Path, decode: Decode) -> Decode:
    """Return the shared fixture, for names of samples."""
    return lambda name, *intervals, **settings: decode(samples / name, *intervals, **settings)


def _frames(decoded: Decoded) -> EncodedVideo:
    assert decoded.video is not None
    return decoded.video


def _picture(video: EncodedVideo, index: int) -> npt.NDArray[np.float32]:
    with Image.open(io.BytesIO(video.frame(index).tobytes())) as image:
        assert image.size == (video.width, video.height)
        return np.asarray(image.convert("RGB"), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("plain.mp4", 50, (42, 32)),  # 64x48: 42.67 wide, the nearest even number is 42
        ("plain.mkv", 50, (42, 32)),  # no frame count in the header
        ("b frames.avi", 25, (42, 32)),
        ("vfr.mp4", 18, (42, 32)),  # 13 + 5, see video_samples
        ("turned.mp4", 50, (32, 42)),
        ("wide pixels.mp4", 25, (86, 32)),  # 128x48 as shown
        ("-dash:colon [b] 'q'.mp4", 50, (42, 32)),
    ],
)
def test_whole_videos_are_ok(
    decode: Decode, name: str, num_frames: int, size: tuple[int, int]
) -> None:
    """Every frame arrives, upright and with square pixels, under any file name."""
    decoded = decode(name)
    video = _frames(decoded)
    assert (decoded.status, decoded.reason) == ("ok", None)
    assert (video.num_frames, video.width, video.height) == (num_frames, *size)
    assert _picture(video, num_frames - 1).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", ["plain.mp4", "vfr.mp4", "b frames.avi"])
def test_times_are_the_files_own(samples: Path, decode: Decode, name: str) -> None:
    """Times equal those that another reader, PyAV, finds in the file, also at a variable rate."""
    with av.open(str(samples / name)) as container:
        expected = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(_frames(decode(name)).pts_seconds, expected, rtol=0, atol=1e-9)


def test_pictures_are_those_of_the_video(samples: Path, decode: Decode) -> None:
    """Frame i is frame i of the video: of all frames that PyAV decodes, that one is nearest."""
    with av.open(str(samples / "plain.mp4")) as container:
        truth = [
            frame.to_ndarray(format="rgb24", width=42, height=32).astype(np.float32)
            for frame in container.decode(video=0)
        ]
    video = _frames(decode("plain.mp4"))
    for index in range(0, 50, 7):
        errors = [np.abs(_picture(video, index) - picture).mean() for picture in truth]
        assert int(np.argmin(errors)) == index
        assert min(errors) < 20  # of 255: sharp colored edges, and JPEG halves the chroma


def test_colors_are_those_of_the_video(shared: Path, decode: Decode) -> None:
    """Readers of JPEG assume BT.601: a BT.709 video is converted (otherwise it is 13 of 255 off)."""
    path = shared / "data" / "odd" / "torchcodec__bt709_full_range.mp4"
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    truth = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
    video = _frames(decode(path, short_side=frame.height))
    assert np.abs(_picture(video, 0) - truth.astype(np.float32)).mean() < 4


@pytest.mark.slow
def test_high_dynamic_range_is_mapped(shared: Path, decode: Decode) -> None:
    """HDR becomes an ordinary frame: the sky of this clip is blue; PQ without mapping looks gray."""
    video = _frames(
        decode(shared / "data" / "odd" / "exoplayer__hdr10-video-with-sdr-container.mp4")
    )
    red, _, blue = _picture(video, 0)[:6, 30:45].mean(axis=(0, 1))
    assert blue - red > 80  # 30 without


def test_turned_videos_stand_upright(decode: Decode) -> None:
    """A display rotation of 90 degrees counterclockwise is applied, and kept as 270 clockwise."""
    plain, turned = _frames(decode("plain.mp4")), _frames(decode("turned.mp4"))
    assert (plain.rotation, turned.rotation) == (0, 270)
    difference = np.abs(np.rot90(_picture(plain, 20)) - _picture(turned, 20))
    assert difference.mean() < 12  # chroma is halved along the other side


def test_quality_one_is_better_than_two(decode: Decode) -> None:
    """`-q:v 1` takes effect (it needs -qmin 1), and 31 is the smallest."""
    sizes = [len(_frames(decode("plain.mp4", quality=quality)).jpeg) for quality in (1, 2, 31)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(
    ("name", "most", "reason"),
    [
        ("cut plain.mp4", 49, "it is cut short: its header claims 50 frames"),
        ("cut plain.mkv", 49, "File ended prematurely"),
        ("trimmed.mp4", 40, "its header claims 50 frames, 40 decoded; its edit list hides 10"),
        ("text.mp4", 0, "cannot be opened as a video"),
        ("empty.mp4", 0, "cannot be opened as a video"),
        ("none.mp4", 0, "cannot be opened as a video (No such file"),
        ("sound.m4a", 0, "holds no video stream"),
    ],
)
def test_missing_frames_have_a_reason(decode: Decode, name: str, most: int, reason: str) -> None:
    """A file that lacks frames is partial and keeps those there are; one without any is failed."""
    decoded = decode(name)
    assert decoded.status == ("partial" if most else "failed")
    assert reason in (decoded.reason or "")
    assert (decoded.video is not None) == (most > 0)
    assert decoded.video is None or 1 <= decoded.video.num_frames <= most


@pytest.mark.parametrize(
    ("interval", "first", "last", "count"),
    [
        ((None, 0.4), 0.0, 0.36, 10),  # 25 frames a second; the end is not kept
        ((0.4, 0.8), 0.4, 0.76, 10),
        ((1.8, None), 1.8, 1.96, 5),
    ],
)
def test_an_interval_is_half_open(
    decode: Decode,
    interval: tuple[float | None, float | None],
    first: float,
    last: float,
    count: int,
) -> None:
    """Frames with start <= time < end are kept."""
    video = _frames(decode("plain.mp4", interval))
    assert video.num_frames == count
    np.testing.assert_allclose([video.pts_seconds[0], video.pts_seconds[-1]], [first, last])


@pytest.mark.parametrize(("name", "bars"), [("wider.h264", 24), ("larger.h264", 0)])
def test_a_change_of_size_is_noted(decode: Decode, name: str, bars: int) -> None:
    """If the frame size changes within a video, nothing is lost or stretched, and a note says so."""
    decoded = decode(name, short_side=48)
    assert (decoded.status, _frames(decoded).num_frames) == ("ok", 20)
    assert "its frame size changes from 64x48 to 128x" in (decoded.note or "")
    rows = _picture(_frames(decoded), 19).max(axis=(1, 2))  # 64x48, of which 64x24 show 128x48
    assert (rows < 24).sum() == pytest.approx(bars, abs=2)
    assert _picture(_frames(decoded), 9).max(axis=(1, 2)).min() > 100


def test_an_interval_without_frames_is_failed(decode: Decode) -> None:
    """An interval beyond the end is failed, and says where the video ends."""
    reason = decode("plain.mp4", (7.0, None)).reason
    assert reason == "none of its 50 frames lies in [7, end) s; the last is shown at 1.96 s"
    assert "[0, 1e-09)" in (decode("b frames.avi", (None, 1e-9)).reason or "")


@pytest.fixture
def decode_with(probes: ProbePool, tmp_path: Path) -> Decode:
    def run(script: str, path: Path, *, limit: float = 60.0) -> Decoded:
        program = tmp_path / "ffmpeg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        settings = DecodeSettings(32, 2, time_limit_seconds=limit)
        decoder = Decoder(Ffmpeg(str(program), "9"), settings, probes)
        (decoded,) = decoder.decode(path, sha256="0" * 64)
        return decoded

    return run


@pytest.mark.slow
def test_a_long_video_is_no_silent_one(samples: Path, decode_with: Decode) -> None:
    """The time limit is for each frame: as long as frames come, a video may take any time."""
    real = imageio_ffmpeg.get_ffmpeg_exe()
    # 2 s of frames at half the speed at which they are shown
    script = f'exec "{real}" -readrate 0.5 -readrate_initial_burst 0.1 "$@"'
    began = time.monotonic()
    decoded = decode_with(script, samples / "plain.mp4", limit=2.5)
    assert (decoded.status, decoded.source_sha256) == ("ok", "0" * 64)
    assert time.monotonic() - began > 3


def test_ffmpeg_that_dies_is_not_believed(samples: Path, decode_with: Decode) -> None:
    """An ffmpeg that ends with an error, or prints nothing at all, never gives ok."""
    for name, code, reason in (
        ("plain.mp4", 3, "ended with code 3"),
        ("plain.mp4", 0, "its header claims 50 frames, 0 decoded"),
        ("plain.mkv", 0, "it holds 50 coded frames, 0 decoded"),
        ("plain.webm", 0, "ffmpeg found no frame"),
    ):
        decoded = decode_with(f"exit {code}", samples / name)
        assert decoded.status == "failed"
        assert reason in (decoded.reason or "")


def test_stopping_ends_what_runs() -> None:
    """`stop` kills a running program at once, and whatever is started after it."""
    running = ChildProcesses()
    began = time.monotonic()
    with running.start(["sleep", "60"]) as process:
        threading.Timer(0.1, running.stop).start()
        assert process.wait() == -9
    with running.start(["sleep", "60"]) as process:
        assert process.wait() == -9
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_odd_files_get_a_right_verdict(shared: Path, decode: Decode) -> None:
    """All 74 odd files get a verdict that EXPECTED.tsv allows, and ok ones every frame it counts."""
    wrong = []
    folder = shared / "data" / "odd"
    with (folder / "EXPECTED.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            decoded = decode(folder / row["file"], short_side=16)
            frames = decoded.video.num_frames if decoded.video else 0
            whole = decoded.status != "ok" or frames == int(row["decoded_frames"])
            if decoded.status not in row["allowed"].split("|") or not whole:
                wrong.append((row["file"], decoded.status, decoded.reason, frames))
    assert not wrong
