"""The page of clusters: self-contained, escaped, and right in its numbers."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters_samples import sample_clusters
from hypothesis import given
from hypothesis import strategies as st
from page_samples import NASTY, Reader, details_of, many_clusters, write_sample_page
from PIL import Image

from fvar.report.clusters_page.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, charts
from fvar.report.colors import cluster_colors
from fvar.store.clusters.video_clusters import VideoClusters


def rows_of(reader: Reader) -> list[dict[str, str | None]]:
    return [row for row in reader.all("tr") if "data-number" in row]


def write(folder: Path, videos: list[VideoClusters], **changes: Any) -> str:
    return write_sample_page(folder, videos, **changes).read_text(encoding="utf-8")


def test_text_is_escaped(tmp_path: Path) -> None:
    """Ids, labels, settings and explanations that look like markup or templates are shown and add no tags."""
    plain = Reader(write(tmp_path / "plain", [sample_clusters(seed=1)]))
    video = sample_clusters(id=NASTY, label=NASTY + "l", predicted=NASTY + "p")
    page = write(tmp_path, [video], text=f"It is cut {NASTY}.", classes=(NASTY, "</script>"))
    nasty = Reader(page)
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert NASTY in nasty.text
    assert f"It is cut {NASTY}." in nasty.text
    assert rows_of(nasty)[0]["data-text"] == f"{NASTY} {NASTY}l {NASTY}p".lower()
    meta = re.search(r'id="meta">(.*?)</script>', page)
    assert meta is not None
    assert json.loads(meta[1]) == {"classes": [NASTY, "</script>"]}


def test_page_needs_no_network(tmp_path: Path) -> None:
    """Nothing is loaded from elsewhere: no src, no CSS import; links lead to the pictures beside."""
    text = write(tmp_path, many_clusters(3))
    reader = Reader(text)
    for _, attributes in reader.tags:
        assert "src" not in attributes
        assert re.match(
            r"#|filmstrips/\d{5}-[a-z0-9-]+\.png$",
            attributes.get("href") or "filmstrips/00000-x.png",
        )
    bare = re.sub(r'"data:[^"]*"', "", text).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"@import|url\((?!\"\$)|https?:", bare)
    policy = next(m for m in reader.all("meta") if "http-equiv" in m)
    assert (policy["content"] or "").startswith("default-src 'none'")


@pytest.mark.parametrize("embed", [True, False])
def test_each_video_has_its_numbers_and_pictures(tmp_path: Path, embed: bool) -> None:
    """Inside the page or beside it: boundaries, steps, scores, and a sprite with a tile per frame shown."""
    videos = many_clusters(3)
    details = details_of(write(tmp_path, videos, embed=embed))
    if not embed:
        assert not details
        for path in sorted((tmp_path / "videos").glob("*.js")):
            number, _, text = path.read_text().removeprefix("fvarVideo(").partition(", ")
            details[int(number)] = json.loads(text.removesuffix(");\n"))
    assert list(details) == [0, 1, 2]
    for number, clusters in enumerate(videos):
        found = details[number]
        assert found["boundaries"] == clusters.boundaries.tolist()
        assert found["steps"] == clusters.step_distances.tolist()
        assert found["pts"] == pytest.approx(clusters.pts_seconds.tolist(), abs=1e-5)
        assert np.array(found["scores"]) == pytest.approx(clusters.cluster_scores, abs=1e-5)
        assert sum(found["whole"]) == pytest.approx(1, abs=1e-4)
        sprite = found["sprite"]
        data = (
            base64.b64decode(sprite["source"].removeprefix("data:image/webp;base64,"))
            if embed
            else (tmp_path / sprite["source"]).read_bytes()
        )
        rows = -(-sprite["tiles"] // sprite["columns"])
        with Image.open(BytesIO(data)) as image:
            assert image.size == (12 * sprite["tile_width"], rows * sprite["tile_height"])
        assert sprite["frames"] == sorted(set(sprite["frames"]))
        assert set(clusters.starts.tolist()) <= set(sprite["frames"])
        assert sprite["tiles"] == len(sprite["frames"]) + clusters.num_clusters


def test_beside_the_page_its_rows_name_the_scripts(tmp_path: Path) -> None:
    """The page says that the pictures lie beside it, and each row names a file that is there."""
    reader = Reader(write(tmp_path, many_clusters(3), embed=False))
    assert "Keep the two together" in reader.text
    for row in rows_of(reader):
        assert (tmp_path / str(row["data-file"])).is_file()


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


def test_the_row_of_a_video(tmp_path: Path) -> None:
    """Verdict as a sign and a word; confidence and margin of the mean logits; evenness and stripes."""
    logits = np.log(np.array([[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32))
    cut = {
        "boundaries": np.array([0, 1, 4]),
        "logits": logits,
        "step_distances": np.array([0, 500, 250]),
    }
    videos = [
        sample_clusters(4, 2, seed=0, **cut),
        sample_clusters(seed=1, label="up", predicted="down"),
    ]
    reader = Reader(write(tmp_path, videos))
    assert reader.text.count("✓ right") == reader.text.count("✗ wrong") == 1
    first, second = rows_of(reader)
    assert [row["data-verdict"] for row in (first, second)] == ["right", "wrong"]
    assert float(str(first["data-confidence"])) == pytest.approx(0.7, abs=1e-5)
    assert float(str(first["data-margin"])) == pytest.approx(0.6, abs=1e-5)
    assert float(str(first["data-change"])) == pytest.approx(0.75)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(2)
    assert float(str(first["data-evenness"])) == pytest.approx(entropy)
    assert second["data-confidence"] == ""
    stripe = next(d for d in reader.all("div") if d.get("class") == "stripe")
    a, b = cluster_colors(2)
    assert f"(90deg, {a} 0.00% 25.00%, {b} 25.00% 100.00%)" in (stripe["style"] or "")


def test_without_javascript_the_controls_are_hidden(tmp_path: Path) -> None:
    """Only a script shows what needs a script; all rows are visible, also of a single frame."""
    reader = Reader(write(tmp_path, [sample_clusters(1)]))
    assert "hidden" in reader.all("form")[0]
    assert "hidden" not in rows_of(reader)[0]


@given(shapes=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 40)), min_size=1, max_size=6))
def test_charts_stay_inside_their_frame(shapes: list[tuple[int, int]]) -> None:
    """Bars and whiskers of any set of videos lie inside the plot."""
    for chart in charts([sample_clusters(t, k).sizes.tolist() for t, k in shapes]):
        assert chart.bars
        for bar in chart.bars:
            assert LEFT <= bar.x <= bar.x + bar.width <= WIDTH - RIGHT
            assert bar.y + bar.height == pytest.approx(HEIGHT - BOTTOM, abs=0.02)
            for y in (bar.y, *(bar.whisker or ())):
                assert TOP - 0.01 <= y <= HEIGHT - BOTTOM + 0.01
        assert chart.rule is None or TOP <= chart.rule <= HEIGHT - BOTTOM


def test_charts_summarize_fractions() -> None:
    """Fractions of 1/2, 1/4, 1/4 twice give these medians by rank and in time; short videos are left out."""
    by_rank, in_time, sizes = charts([[2, 2, 4], [2, 2, 4], [1, 1]])
    medians = [[bar.hint.split(" ")[2] for bar in chart.bars] for chart in (by_rank, in_time)]
    assert medians == [["50.0%,", "25.0%,", "25.0%,"], ["25.0%,", "25.0%,", "50.0%,"]]
    assert "Median of 2 videos" in by_rank.note
    assert [bar.hint.split(" ", 1) for bar in sizes.bars] == [
        ["2", "clusters of 1 frames"],
        ["4", "clusters of 2–3 frames"],  # noqa: RUF001  # a span
        ["2", "clusters of 4–7 frames"],  # noqa: RUF001  # a span
    ]
