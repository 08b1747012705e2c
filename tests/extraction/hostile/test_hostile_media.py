"""Hostile videos: only the file itself is opened, and every claim is bounded before it is believed."""

import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import elsewhere, rebuild, same_byte
from opened import opened_in
from PIL import Image

from fvar.config import ExtractConfig
from fvar.extraction.decode import Decoded
from fvar.extraction.probe.claims import UnreadableError
from fvar.extraction.probe.container import glance, read_claims
from fvar.extraction.probe.pool import ProbePool
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n{key}#EXTINF:1.0,\n{url}\n#EXT-X-ENDLIST\n"
_MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S" minBufferTime="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>"
)
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" '
    'height="48"><image xlink:href="file://{far}/secret.png" width="64" height="48"/></svg>'
)
_SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"

# name -> content; {far} is a folder outside, {port} one that listens
_REFERENCES = {
    "concat.mp4": "ffconcat version 1.0\nfile {far}/secret.mp4\n",
    "concat beside.mp4": "ffconcat version 1.0\nfile beside.mp4\n",
    "concat up.mp4": "ffconcat version 1.0\nfile ../far/secret.mp4\n",
    "concat http.mp4": "ffconcat version 1.0\nfile http://127.0.0.1:{port}/x.mp4\n",
    "hls.m3u8": _HLS.format(key="", url="{far}/secret.ts"),
    "hls url.m3u8": _HLS.format(key="", url="file://{far}/secret.ts"),
    "hls up.m3u8": _HLS.format(key="", url="../far/secret.ts"),
    "hls http.m3u8": _HLS.format(key="", url="http://127.0.0.1:{port}/x.ts"),
    "hls concat.m3u8": _HLS.format(key="", url="concat:{far}/secret.ts|{far}/secret.ts"),
    "hls subfile.m3u8": _HLS.format(key="", url="subfile,,start,0,end,0,,:{far}/secret.ts"),
    "hls crypto.m3u8": _HLS.format(key="", url="crypto:{far}/secret.ts"),
    "hls pipe.m3u8": _HLS.format(key="", url="pipe:0"),
    "hls data.m3u8": _HLS.format(key="", url="data:video/mp2t;base64,R0dHRw=="),
    "hls key.m3u8": _HLS.format(
        key='#EXT-X-KEY:METHOD=AES-128,URI="{far}/secret.ts"\n', url="beside.ts"
    ),
    "hls by another name.mp4": _HLS.format(key="", url="{far}/secret.ts"),
    "dash.mpd": _MPD.format(url="{far}/secret.mp4"),
    "dash http.mpd": _MPD.format(url="http://127.0.0.1:{port}/x.mp4"),
    "session.sdp": _SDP,
    "session.mp4": _SDP,
    "drawing.svg": _SVG,
    "subtitles.idx": "# VobSub index file, v7\nsize: 720x576\nid: en, index: 0\n"
    "timestamp: 00:00:00:000, filepos: 000000000\n",
    "script.avs": 'FFmpegSource2("{far}/secret.mp4")\n',
}


Decode = Callable[[Path], Decoded]


@pytest.fixture(scope="module")
def far(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that no video may lead to; `home` beside it is where the videos are."""
    folder = tmp_path_factory.mktemp("hostile") / "far"
    folder.mkdir()
    home = folder.with_name("home")
    home.mkdir()
    for name in ("secret.mp4", "secret.ts"):
        shutil.copy(samples / "plain.mp4", folder / name)
    for name in ("beside.mp4", "beside.ts", "subtitles.sub"):
        shutil.copy(samples / "plain.mp4", home / name)
    (folder / "secret.png").write_bytes(_png(64, 48))
    return folder


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _png(width: int, height: int) -> bytes:
    """Return a black picture, a bit a pixel; its pixels are there only where they are few."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", check)

    rows = bytes((1 + (width + 7) // 8) * min(height, 100))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _write_reference(far: Path, listening: socket.socket, name: str) -> Path:
    path = far.with_name("home") / name
    path.write_text(_REFERENCES[name].format(far=far, port=listening.getsockname()[1]))
    return path


def _opens_nothing_else(
    path: Path, far: Path, listening: socket.socket, decode: Callable[[], Decoded]
) -> None:
    """Check that a video is failed, and that no other file and no connection is opened for it."""
    with opened_in(far) as outside, opened_in(path.parent) as beside:
        decoded = decode()
    assert (decoded.status, decoded.video) == ("failed", None)
    assert not outside
    assert set(beside) == {path.name}
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.parametrize("name", _REFERENCES)
def test_what_names_other_files_is_not_followed(
    far: Path, listening: socket.socket, name: str, decode: Decode, probes: ProbePool
) -> None:
    """A playlist, a script, a session or a drawing is failed; no file and no network it names is opened."""
    path = _write_reference(far, listening, name)
    _opens_nothing_else(path, far, listening, lambda: decode(path))
    with opened_in(far) as outside, pytest.raises(UnreadableError):
        probes.ask(glance, path, 30.0)
    assert not outside


@pytest.mark.parametrize(
    "name", ["concat beside.mp4", "hls.m3u8", "hls http.m3u8", "hls key.m3u8", "session.sdp"]
)
def test_ffmpeg_alone_follows_nothing_either(
    far: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, name: str, decode: Decode
) -> None:
    """Were PyAV to let a playlist through, ffmpeg would still open nothing but the file itself."""
    path = _write_reference(far, listening, name)
    claims = read_claims(far / "secret.mp4")
    monkeypatch.setattr(ProbePool, "ask", lambda *_, **__: claims)
    _opens_nothing_else(path, far, listening, lambda: decode(path))


@pytest.mark.timeout(60)
def test_no_format_reaches_the_network(
    far: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, decode: Decode
) -> None:
    """Were playlists among the formats, they would still get no connection: files are the only protocol."""
    path = _write_reference(far, listening, "hls http.m3u8")
    claims = read_claims(far / "secret.mp4")
    monkeypatch.setattr("fvar.extraction.probe.container.FORMATS", "hls,mpegts")
    with pytest.raises(UnreadableError):
        read_claims(path)
    claims = replace(claims, format="hls,mpegts")
    monkeypatch.setattr(ProbePool, "ask", lambda *_, **__: claims)
    assert decode(path).status == "failed"
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.parametrize("name", ["img%03d.png", "img*.png", "img00?.png", "img{000,001}.png"])
def test_a_picture_is_no_pattern(far: Path, tmp_path: Path, name: str, decode: Decode) -> None:
    """A picture whose name is a number pattern or a glob does not stand for the files that match."""
    for n in range(3):
        (tmp_path / f"img{n:03d}.png").symlink_to(far / "secret.png")
    shutil.copy(far / "secret.png", tmp_path / name)
    with opened_in(far) as outside:
        decoded = decode(tmp_path / name)
    assert not outside
    assert decoded.status == "failed"


def test_a_movie_whose_pictures_lie_elsewhere(samples: Path, far: Path, decode: Decode) -> None:
    """A QuickTime data reference to another file is not followed: the movie holds nothing."""
    path = far.with_name("home") / "reference.mov"
    reference = {b"dref": elsewhere(f"{far}/secret.mp4")}
    path.write_bytes(rebuild((samples / "plain.mp4").read_bytes(), reference))
    with opened_in(far) as outside:
        decoded = decode(path)
    assert decoded.status == "failed"
    assert not outside


@pytest.mark.parametrize(
    "name",
    [
        "concat:a.mp4|b.mp4", "http:x", "pipe:0", "data:video", "subfile,,start,0,end,9,,:a.mp4",
        "-nostdin", "-i.mp4", "%03d.mp4", "*.mp4", "$(touch x).mp4", "a;b&c|d.mp4", "'\"`.mp4",
        "[red]a[bold].mp4", "a\nb\x1b[31m.mp4", "a\udcff.mp4", "input", "<script>.mp4",
    ],
)  # fmt: skip
def test_a_name_is_only_a_name(samples: Path, tmp_path: Path, name: str, decode: Decode) -> None:
    """A file whose name looks like a protocol, a flag, a pattern or a command is decoded as it is."""
    shutil.copy(samples / "plain.mp4", tmp_path / name)
    decoded = decode(tmp_path / name)
    assert (decoded.status, decoded.reason) == ("ok", None)
    assert decoded.video is not None
    assert decoded.video.num_frames == 50


@pytest.mark.timeout(30)
def test_pipes_and_folders_are_not_opened(samples: Path, tmp_path: Path) -> None:
    """A named pipe or an empty folder in the place of a video is failed at once; the others go on."""
    shutil.copy(samples / "plain.mp4", tmp_path / "whole.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "s.csv").write_text(
        "id,video,label,split\na,pipe.mp4,x,train\nb,folder.mp4,x,train\nc,whole.mp4,x,train\n"
    )
    config = ExtractConfig(videos=str(tmp_path), short_side=16)
    manifest = extract(tmp_path / "s.csv", tmp_path / "out", config, SilentReporter())
    assert [video.status for video in manifest.videos] == ["failed", "failed", "ok"]
    assert manifest.videos[0].reason == f"{tmp_path / 'pipe.mp4'} is not a file or folder"


def test_one_byte_is_not_a_million_frames(
    samples: Path, tmp_path: Path, decode: Decode, probes: ProbePool
) -> None:
    """An index that names the same byte over and over is failed early, and not estimated."""
    whole = (samples / "plain.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(rebuild(whole, same_byte(300_000, chunks=300)))
    decoded = decode(tmp_path / "a.mp4")
    assert decoded.status == "failed"
    assert "claims more packets than the" in (decoded.reason or "")
    with pytest.raises(UnreadableError, match="promises more frames than the"):
        probes.ask(glance, tmp_path / "a.mp4", 30.0)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_giant_frame_is_refused(tmp_path: Path, side: int, decode: Decode) -> None:
    """A file of a hundred bytes that claims a frame of 100 million pixels or more is failed."""
    path = tmp_path / "giant.gif"
    Image.new("L", (64, 48)).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", side, side)
    path.write_bytes(data)
    decoded = decode(path)
    assert decoded.status == "failed"
    assert f"{side}x{side}" in (decoded.reason or "")


@pytest.mark.slow
def test_a_giant_frame_is_not_decoded_by_the_counting(tmp_path: Path, decode: Decode) -> None:
    """A frame that does hold so many pixels, in 50 KB, is not the first frame of the counting either."""
    Image.new("L", (8200, 8200)).save(tmp_path / "giant.gif")
    assert read_claims(tmp_path / "giant.gif").size == (0, 0)
    assert decode(tmp_path / "giant.gif").status == "failed"


def test_a_giant_picture_in_a_folder_is_refused(tmp_path: Path, decode: Decode) -> None:
    """A picture of a series is held to the same limit, also where it comes after others."""
    (tmp_path / "1.png").write_bytes(_png(64, 48))
    (tmp_path / "2.png").write_bytes(_png(8200, 8200))
    decoded = decode(tmp_path)
    assert decoded.status == "partial"
    assert decoded.reason == "1 of its pictures cannot be read: 2.png (claims 8200x8200 px)"


def test_a_codec_that_nobody_knows(
    samples: Path, tmp_path: Path, decode: Decode, probes: ProbePool
) -> None:
    """A stream without a decoder is failed with ffmpeg's words, not a crash."""
    data = (samples / "b frames.avi").read_bytes()
    for name in (b"FMP4", b"fmp4"):
        data = data.replace(name, b"QQQ9")
    (tmp_path / "unknown.avi").write_bytes(data)
    decoded = decode(tmp_path / "unknown.avi")
    assert decoded.status == "failed"
    assert "ffmpeg" in (decoded.reason or "")
    with pytest.raises(UnreadableError, match="promises no frames"):
        probes.ask(glance, tmp_path / "unknown.avi", 30.0)


def test_text_is_no_video(tmp_path: Path, decode: Decode) -> None:
    """Text is not painted into frames because its name ends in .txt, nor data because of .yuv."""
    for name in ("notes.txt", "notes.nfo", "notes.yuv", "notes.bin"):
        (tmp_path / name).write_text("not a video\n" * 20_000)
        assert decode(tmp_path / name).status == "failed", name
