"""The page of clusters: self-contained, escaped, and right in its numbers."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from clusters_samples import sample_clusters
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fvar.report import page
from fvar.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, charts
from fvar.report.page import write_page
from fvar.store.video_clusters import VideoClusters

NASTY = "<script>alert(1)</script> & \"x\" 'y' ]]> {{ 7*7 }}"


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write(folder: Path, videos: list[VideoClusters]) -> str:
    paths = []
    for i in range(len(videos)):
        paths.append(folder / "filmstrips" / f"{i:05d}-x.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.new("RGB", (160, 90), (i, 90, 200)).save(paths[-1])
    write_page(
        folder / "index.html",
        videos,
        paths,
        explanation=f"It is cut {NASTY}.",
        settings={"clustering": "cumulative, k = 8", "checkpoint": NASTY},
        num_available=1234,
    )
    return (folder / "index.html").read_text(encoding="utf-8")


def test_text_is_escaped(tmp_path: Path) -> None:
    """Ids, labels, settings and explanations that look like markup or templates are shown and add no tags."""
    plain = Reader(write(tmp_path, [sample_clusters()]))
    video = sample_clusters(id=NASTY, label=NASTY + "l", predicted=NASTY + "p")
    nasty = Reader(write(tmp_path, [video]))
    assert len(nasty.all("script")) == len(plain.all("script")) == 1
    assert NASTY in nasty.text
    assert f"It is cut {NASTY}." in nasty.text
    assert f"Filmstrip of {NASTY}: " in (nasty.all("img")[0]["alt"] or "")
    assert nasty.all("article")[0]["data-text"] == f"{NASTY} {NASTY}l {NASTY}p".lower()


def test_page_needs_no_network(tmp_path: Path) -> None:
    """Nothing is loaded from elsewhere: every src is a data URI, every link an anchor, no CSS imports."""
    text = write(tmp_path, [sample_clusters(seed=seed) for seed in range(3)])
    reader = Reader(text)
    for _, attributes in reader.tags:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\(|//[a-z]", re.sub(r'"data:[^"]*"', "", text))
    policy = next(m for m in reader.all("meta") if "http-equiv" in m)
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_each_video_has_its_picture(tmp_path: Path) -> None:
    """The pictures inside the page are those given, in order, with their true size."""
    reader = Reader(write(tmp_path, [sample_clusters(seed=seed) for seed in range(3)]))
    for number, attributes in enumerate(reader.all("img")):
        source = (attributes["src"] or "").removeprefix("data:image/webp;base64,")
        with Image.open(BytesIO(base64.b64decode(source))) as image:
            assert image.size == (160, 90)
            assert abs(image.convert("RGB").getpixel((80, 45))[0] - number) < 12  # type: ignore[index]
        assert (attributes["width"], attributes["height"]) == ("160", "90")
        assert reader.all("article")[number]["id"] == f"video-{number + 1}"


def test_beyond_the_limit_pictures_lie_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the number that a page can hold, pictures are relative links, and the page says so."""
    monkeypatch.setattr(page, "MAX_EMBEDDED", 2)
    reader = Reader(write(tmp_path, [sample_clusters(seed=seed) for seed in range(3)]))
    sources = [attributes["src"] or "" for attributes in reader.all("img")]
    assert [source[:5] for source in sources[:2]] == ["data:", "data:"]
    assert sources[2] == "filmstrips/00002-x.png"
    assert (tmp_path / sources[2]).is_file()
    assert "does not contain the pictures of the last 1 videos" in reader.text


def test_headline_figures(tmp_path: Path) -> None:
    """Two videos of 32 and 3 frames with k = 8: 35 frames, 11 clusters, 3 single frames, 1 of 2 right."""
    videos = [sample_clusters(32, 8, seed=0), sample_clusters(3, 8, seed=1)]
    text = re.sub(r"\s+", " ", Reader(write(tmp_path, videos)).text)
    for figure in (
        "videos2of 1,234 in the split",
        "frames35each in exactly one cluster",
        "clusters113.2 frames on average",
        "single frames3clusters of one frame",
        "right50.0%1 of 2 videos",
    ):
        assert figure in text


def test_right_and_wrong_are_words(tmp_path: Path) -> None:
    """The verdict is a sign and a word, not only a color; a wrong video names both classes."""
    videos = [sample_clusters(seed=0), sample_clusters(seed=1, label="up", predicted="down")]
    reader = Reader(write(tmp_path, videos))
    assert reader.text.count("✓ right") == reader.text.count("✗ wrong") == 2
    assert "class up, predicted down" in reader.text
    assert [card["data-verdict"] for card in reader.all("article")] == ["right", "wrong"]


def test_stripes_are_the_clusters(tmp_path: Path) -> None:
    """A video of 4 frames cut 1 + 3 has stripes of 25 and 75 %; largest to smallest is 3."""
    reader = Reader(write(tmp_path, [sample_clusters(4, 2, boundaries=np.array([0, 1, 4]))]))
    (stripe,) = (d for d in reader.all("div") if d.get("class") == "stripe")
    assert "(90deg, #0072b2 0.000% 25.000%, #e69f00 25.000% 100.000%)" in (stripe["style"] or "")
    assert reader.all("article")[0]["data-ratio"] == "3.0"


def test_without_javascript_the_controls_are_hidden(tmp_path: Path) -> None:
    """Only a script shows what needs a script; all cards are visible, also of a single frame."""
    reader = Reader(write(tmp_path, [sample_clusters(1)]))
    assert "hidden" in reader.all("form")[0]
    assert "hidden" not in reader.all("article")[0]


@given(shapes=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 40)), min_size=1, max_size=6))
def test_charts_stay_inside_their_frame(shapes: list[tuple[int, int]]) -> None:
    """Bars and whiskers of any set of videos lie inside the plot."""
    for chart in charts([sample_clusters(frames, k, seed=1) for frames, k in shapes]):
        assert chart.bars
        for bar in chart.bars:
            assert LEFT <= bar.x <= bar.x + bar.width <= WIDTH - RIGHT
            assert bar.y + bar.height == pytest.approx(HEIGHT - BOTTOM, abs=0.02)
            for y in (bar.y, *(bar.whisker or ())):
                assert TOP - 0.01 <= y <= HEIGHT - BOTTOM + 0.01
        assert chart.rule is None or TOP <= chart.rule <= HEIGHT - BOTTOM


def test_charts_summarize_fractions() -> None:
    """Fractions of 1/2, 1/4, 1/4 twice give these medians by rank and in time; short videos are left out."""
    cut = sample_clusters(8, 3, boundaries=np.array([0, 2, 4, 8]))
    by_rank, in_time, sizes = charts([cut, cut, sample_clusters(2, 3)])
    medians = [[bar.hint.split(" ")[2] for bar in chart.bars] for chart in (by_rank, in_time)]
    assert medians == [["50.0%,", "25.0%,", "25.0%,"], ["25.0%,", "25.0%,", "50.0%,"]]
    assert "Median of 2 videos" in by_rank.note
    assert [bar.hint.split(" ", 1) for bar in sizes.bars] == [
        ["2", "clusters of 1 frames"],
        ["4", "clusters of 2–3 frames"],  # noqa: RUF001  # a span
        ["2", "clusters of 4–7 frames"],  # noqa: RUF001  # a span
    ]
