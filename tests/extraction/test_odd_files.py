"""Files that are whole and unusual: every frame is kept, and the note says what is odd."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from field_video import field_video
from PIL import Image

from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, find_ffmpeg
from fvar.extraction.probe.pool import ProbePool
from fvar.report.pictures.thumbnails import decode_thumbnail

Decode = Callable[..., Decoded]
_TEST = "-f lavfi -i testsrc=duration=2:rate=25:size=64x48"
_NOISY = "-f lavfi -i testsrc=duration=2:rate=25:size=320x240,noise=alls=20"


def _make(folder: Path, arguments: str, name: str) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y"]
    subprocess.run([*command, *arguments.split(), name], cwd=folder, check=True)
    return folder / name


# A time of its own has frame n at n / 25 s; `setpts` gives frame 30 and others another one, in milliseconds.
@pytest.mark.parametrize(
    ("times", "odd"),
    [
        ("if(eq(N,30),29,N)*40", 1),  # the time of the frame before
        ("floor(N/5)*200", 40),  # a coarse clock: five frames a tick
        ("if(between(N,20,24),19,N)*40", 5),
        ("0*N", 49),  # no times at all
    ],
)
def test_equal_times_lose_no_frame(tmp_path: Path, decode: Decode, times: str, odd: int) -> None:
    """All 50 frames come with the times of the container, which never fall, and the note counts them."""
    # An encoder refuses such times, so they are written by copying packets that rise by a microsecond.
    _make(tmp_path, f"{_TEST} -c:v mjpeg", "rising.mkv")
    setts = f"-i rising.mkv -c copy -bsf:v setts=ts='{times}'"
    found = decode(_make(tmp_path, setts, "equal.mkv"))
    assert (found.status, found.reason) == ("ok", None)
    assert found.video is not None
    assert found.video.num_frames == 50
    assert (np.diff(found.video.pts_seconds) >= 0).all()
    assert np.count_nonzero(np.diff(found.video.pts_seconds) == 0) == odd
    assert found.note == (
        f"{odd} of its 50 frames have no time of their own, or none after that of the frame before; they are "
        "stored with that one's time"
    )


def test_times_that_rise_are_kept_as_they_are(samples: Path, decode: Decode) -> None:
    """The clock of the encoder is finer than that of the file; the stored times are the file's."""
    found = decode(samples / "plain.mp4")
    assert found.video is not None
    np.testing.assert_array_equal(found.video.pts_seconds, np.arange(50) / 25)
    assert found.note is None


def test_faster_than_the_clock(tmp_path: Path, decode: Decode) -> None:
    """2,000 frames a second in a file that counts milliseconds: all 200."""
    source = "-f lavfi -i testsrc=duration=0.1:rate=2000:size=64x48 -c:v libx264 -bf 0"
    found = decode(_make(tmp_path, source, "fast.mkv"))
    assert found.video is not None
    assert (found.status, found.video.num_frames) == ("ok", 200)


@pytest.mark.parametrize("whole", [(), (0, 1, 5), (9,)])
@pytest.mark.parametrize("name", ["a.h264", "a.ts", "a.mkv", "a.mp4"])
def test_pairs_of_fields_are_frames(
    tmp_path: Path, decode: Decode, whole: tuple[int, ...], name: str
) -> None:
    """H.264 with a packet per field, also after a frame that is coded whole: 10 frames, nothing missing."""
    packets = field_video(10, whole=frozenset(whole))
    (tmp_path / "a.h264").write_bytes(b"".join(packets))
    path = tmp_path / name
    if name != "a.h264":
        path = _make(tmp_path, "-r 25 -i a.h264 -c copy", name)
    found = decode(path)
    assert found.video is not None
    assert (found.status, found.reason, found.video.num_frames) == ("ok", None, 10)


def test_a_frame_that_is_cut_out_of_field_pairs_is_missed(tmp_path: Path, decode: Decode) -> None:
    """A damaged first slice of a pair in the middle leaves fewer frames, which the packets betray."""
    packets = field_video(10)
    packets[8:10] = [packet[:5] + b"\xff" * 200 for packet in packets[8:10]]
    (tmp_path / "a.h264").write_bytes(b"".join(packets))
    assert decode(tmp_path / "a.h264").status == "partial"


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4", "libx264 -bf 0", "rawvideo"])
@pytest.mark.parametrize(
    ("kept", "number"), [("not(between(n,10,14))", 45), ("lt(mod(n,7),2)", 15)]
)
def test_pauses_of_avi(tmp_path: Path, decode: Decode, codec: str, kept: str, number: int) -> None:
    """Capture programs write an empty chunk for "the same again": what is coded is stored, with its times."""
    cut = f"{_TEST} -vf select='{kept}' -fps_mode passthrough -c:v {codec}"
    found = decode(_make(tmp_path, cut, "pauses.avi"))
    assert found.video is not None
    assert (found.status, found.reason, found.video.num_frames) == ("ok", None, number)
    assert found.video.pts_seconds[-1] == pytest.approx(49 / 25)


def test_an_avi_that_is_cut_short_is_still_found(tmp_path: Path, decode: Decode) -> None:
    """Empty chunks explain missing frames only as far as there are any."""
    cut = f"{_TEST} -vf select='not(between(n,10,14))' -fps_mode passthrough -c:v mjpeg"
    path = _make(tmp_path, cut, "pauses.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = decode(path)
    assert found.status == "partial"
    assert "it is cut short: its header claims 45 frames" in str(found.reason)


_STILL = "-f lavfi -i color=red:size=320x240:duration=0.04:rate=25"


@pytest.mark.parametrize(
    ("arguments", "frames", "note"),
    [
        # a picture before the film, and after it, larger and marked as default
        (f"{_STILL} {_TEST} -map 0 -map 1", 50, "number 1"),
        (f"{_STILL} {_TEST} -map 1 -map 0 -disposition:1 default -disposition:0 0", 50, "number 0"),
        # two films: the default one, else the larger, else the first
        (
            (
                f"{_TEST} -f lavfi -i testsrc=duration=1:rate=25:size=32x32 -map 0 -map 1 "
                "-disposition:0 0 -disposition:1 default"
            ),
            25,
            "number 1",
        ),
        (
            (
                f"{_TEST} -f lavfi -i testsrc=duration=1:rate=25:size=128x96 -map 0 -map 1 "
                "-disposition:0 default -disposition:1 default"
            ),
            25,
            "number 1",
        ),
        (f"{_TEST} {_TEST} -map 0 -map 1 -disposition:0 0 -disposition:1 0", 50, "number 0"),
    ],
)
def test_the_stream_that_players_show(
    tmp_path: Path, decode: Decode, arguments: str, frames: int, note: str
) -> None:
    """Of several streams the film that a player shows is stored, and the note tells which."""
    found = decode(_make(tmp_path, f"{arguments} -c:v libx264 -pix_fmt yuv420p", "two.mp4"))
    assert found.video is not None
    assert (found.status, found.video.num_frames) == ("ok", frames)
    assert found.note == f"of its 2 video streams, {note} is stored"


def test_the_files_of_the_reports(shared: Path, decode: Decode) -> None:
    """Files made after public reports give the frames and verdicts that are known for them."""
    folder = shared / "data" / "faults"
    if not folder.is_dir():
        pytest.skip(f"wants the files in {folder}")
    lines = (folder / "EXPECTED.tsv").read_text().splitlines()[1:]
    for name, frames, verdict, *_ in (line.split("\t") for line in lines):
        found = decode(folder / name)
        if verdict == "ok":
            assert found.video is not None
            assert (name, found.status, found.video.num_frames) == (name, "ok", int(frames))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")],
)
def test_decoding_past_damage(tmp_path: Path, probes: ProbePool, name: str, codec: str) -> None:
    """Zeroed bytes in the middle: with `keep_going` the frames after them come too, and all is told."""
    path = _make(tmp_path, f"{_NOISY} -c:v {codec} -g 12", name)
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 5
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    found = {}
    for keep_going in (False, True):
        settings = DecodeSettings(short_side=48, quality=2, keep_going=keep_going)
        (found[keep_going],) = Decoder(find_ffmpeg(), settings, probes).decode(path)
    stopped, gone_on = found[False], found[True]
    assert stopped.video is not None
    assert gone_on.video is not None
    assert (stopped.status, gone_on.status) == ("partial", "partial")
    assert stopped.video.num_frames < 40
    assert (
        gone_on.video.num_frames >= 42
    )  # in Matroska the packets after a destroyed length are gone
    assert str(gone_on.note).startswith("decoded past its damage: ")
    assert str(stopped.reason).split("; ")[-1] in str(gone_on.reason)


def test_a_whole_file_is_decoded_once(samples: Path, probes: ProbePool) -> None:
    """Without damage, `keep_going` changes neither verdict nor frames nor note."""
    settings = DecodeSettings(short_side=48, quality=2)
    plain, going = (
        Decoder(find_ffmpeg(), replace(settings, keep_going=going), probes).decode(
            samples / "vfr.mp4"
        )[0]
        for going in (False, True)
    )
    assert plain.video is not None
    assert going.video is not None
    assert (going.status, going.note) == ("ok", None)
    assert going.video.checksum() == plain.video.checksum()


@pytest.mark.parametrize(
    ("bits", "mode"), [(10, "I;16"), (12, "I;16"), (14, "I;16"), (16, "I;16"), (8, "L")]
)
def test_dark_sixteen_bits_are_told(tmp_path: Path, decode: Decode, bits: int, mode: str) -> None:
    """Cameras put 10 to 14 bits into pictures of 16: stored as they are, with a note on what to do."""
    draw = np.random.default_rng(0)
    for number in range(3):
        values = draw.integers(0, 2**bits, (48, 64)).astype(np.uint16 if mode != "L" else np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    found = decode(tmp_path)
    assert (found.status, found.num_decoded) == ("ok", 3)
    if bits in (8, 16):
        assert found.note is None
    else:
        assert found.note == (
            f"its pictures have 16 bits a value and use the lower {bits}, so they are stored dark; "
            "extract again with --stretch to see them"
        )


@pytest.mark.parametrize("bits", [6, 10, 12, 16])
def test_dark_sixteen_bits_are_stretched(tmp_path: Path, decode: Decode, bits: int) -> None:
    """All pictures of a folder by the same factor, a power of two: a bright one decides for a dark one."""
    for number, value in enumerate((2**bits - 1, 2 ** (bits - 2))):
        values = np.full((48, 64), value, np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    found = decode(tmp_path, stretch=True)
    assert found.status == "ok"
    assert found.video is not None
    gray = [decode_thumbnail(found.video.frame(n), least=(8, 8)).mean() for n in range(2)]
    assert gray == pytest.approx([255, 64], abs=4)
    assert found.note == (
        None
        if bits == 16
        else f"its pictures have 16 bits a value and use the lower {bits}; their values were multiplied by "
        f"{2 ** (16 - bits)} (--stretch)"
    )


def test_colors_of_sixteen_bits_are_not_stretched(tmp_path: Path, decode: Decode) -> None:
    """Only 8 of their bits can be read: they stay dark with and without, and the note says what helps."""
    dark = "-f lavfi -i color=0x040404:duration=1:rate=2:size=64x48 -pix_fmt rgb48be"
    _make(tmp_path, dark, "%d.png")
    found = [decode(tmp_path, stretch=stretch) for stretch in (False, True)]
    assert [decoded.status for decoded in found] == ["ok", "ok"]
    assert found[0].note == found[1].note
    assert "--stretch cannot help, they are in color; multiply their values by" in str(
        found[0].note
    )


def test_stretching_leaves_other_pictures_as_they_are(tmp_path: Path, decode: Decode) -> None:
    """Of 8 bits, and black ones of 16; a picture that cannot be read is told as without it."""
    for name, kind in (("plain", np.uint8), ("black", np.uint16)):
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(np.full((48, 64), 9 if name == "plain" else 0, kind)).save(folder / "0.png")
        (folder / "1.png").write_bytes(b"no picture")
        plain, stretched = decode(folder), decode(folder, stretch=True)
        assert plain.video is not None
        assert stretched.video is not None
        assert stretched.video.checksum() == plain.video.checksum()
        assert (stretched.reason, stretched.note) == (plain.reason, plain.note)


def test_a_rate_that_no_camera_has_is_replaced(tmp_path: Path, decode: Decode) -> None:
    """A header that claims 60,000 frames a second over times of 25: the rate of the times is stored."""
    path = _make(tmp_path, f"{_TEST} -c:v mjpeg -enc_time_base 1:60000 -f matroska", "a.mkv")
    content = bytearray(path.read_bytes())
    at = content.index(b"\x23\xe3\x83")  # DefaultDuration, in ns, of RFC 9559
    size = content[at + 3] & 15
    content[at + 4 : at + 4 + size] = (16_667).to_bytes(size)
    path.write_bytes(content)
    found = decode(path)
    assert found.video is not None
    assert found.video.fps == pytest.approx(25, rel=0.05)
    assert "frames a second; the rate of its times is kept" in str(found.note)


@pytest.mark.parametrize(("number", "frames"), [(0, 50), (1, 25), (2, None)])
def test_another_stream_may_be_chosen(
    tmp_path: Path, probes: ProbePool, number: int, frames: int | None
) -> None:
    """By its number from 0; a number that no stream has is a verdict that says how many there are."""
    arguments = f"{_TEST} -f lavfi -i testsrc=duration=1:rate=25:size=128x96 -map 0 -map 1"
    path = _make(tmp_path, f"{arguments} -c:v libx264 -pix_fmt yuv420p", "two.mp4")
    settings = DecodeSettings(short_side=48, quality=2, video_stream=number)
    (found,) = Decoder(find_ffmpeg(), settings, probes).decode(path)
    if frames is None:
        assert (found.status, found.reason) == (
            "failed",
            "holds 2 video streams, none has the number 2",
        )
    else:
        assert found.video is not None
        assert (found.status, found.video.num_frames) == ("ok", frames)
