"""Official lists: each becomes the rows its authors count, and a bad line is an error with its place."""

from collections import Counter
from pathlib import Path

import pytest

from fvar.errors import ConfigError, SourceError
from fvar.sources.official import datasets, find_videos, read_official
from fvar.sources.source_csv import SourceRow, read_source, write_source

MANIFESTS = Path(__file__).parents[2] / "data_manifests"
NUM_CLASSES = {
    "ucf101": 101,
    "hmdb51": 51,
    "breakfast": 10,
    "breakfast_persons": 10,
    "something_v1": 174,
    "something_v2": 174,
}
SPLITS = [
    pytest.param(name, number, marks=pytest.mark.slow if "something" in name else ())
    for name, dataset in datasets().items()
    if None not in dataset.counts
    for number in range(1, len(dataset.counts) + 1)
]


FILES = {
    "ucf101": {
        "classInd": "1 Archery\r\n2 HandstandPushups\r\n",
        "trainlist01": "Archery/v_Archery_g08_c01.avi 1\r\nArchery/v_Archery_g08_c02.avi 1\r\n"
        "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n\r\n",
        "testlist01": "Archery/v_Archery_g01_c01.avi\r\n",
    },
    "hmdb51": {
        "wave_test_split2": "b_[NEW]!_wave_1.avi 2 \nc_wave_0.avi 0 \na_wave_0.avi 1 \n",
        "run_test_split2": "a_run_0.avi 1 \n",
        "run_test_split1": "a_run_0.avi 2 \n",
    },
    "breakfast": {
        "classInd": "0 coffee\n1 tea\n",
        "s1_train": "P16_cam01_P16_tea.avi 1 362\nP17_stereo01_P17_coffee.avi 0 571\n",
        "s1_test": "P03_cam01_P03_tea.avi 1 -1\n",
    },
    "something_v1": {
        "category": "Holding something\nLifting it, then dropping it",
        "somesomev1_rgb_train_split": "78 42 1\n80 30 0\n",
        "somesomev1_rgb_validation_split": "9 12 1\n",
    },
}
FILES["something_v2"] = {k.replace("v1", "v2"): text for k, text in FILES["something_v1"].items()}


def write_lists(name: str, folder: Path, **changes: str) -> Path:
    """Write small lists of a data set, with changed texts, and return their folder."""
    for file, text in (FILES[name] | changes).items():
        (folder / f"{file}.txt").write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "split_number"), SPLITS)
def test_official_counts(shared: Path, tmp_path: Path, name: str, split_number: int) -> None:
    """The official lists give the published numbers of videos and classes, and make a valid source CSV."""
    folder = shared / "data" / "annotations" / name.removesuffix("_persons")
    split = read_official(name, folder, split_number=split_number)
    assert Counter(row.split for row in split.rows) == split.official
    assert len({row.label for row in split.rows}) == NUM_CLASSES[name]
    write_source(tmp_path / "out.csv", split.rows)
    assert read_source(tmp_path / "out.csv") == split.rows


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_shipped_manifests(name: str, number: int) -> None:
    """The manifests that come with the project hold the official numbers of videos and classes."""
    rows = read_source(MANIFESTS / f"{name}_split{number}.csv.gz")
    counts = datasets()[name].counts[number - 1]
    assert counts is not None
    assert Counter(row.split for row in rows) == {"train": counts[0], "test": counts[1]}
    assert len({row.label for row in rows}) == NUM_CLASSES[name]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_shipped_manifests_are_the_lists(shared: Path, name: str) -> None:
    """A manifest that comes with the project is what `fvar manifest` makes of the official lists."""
    split = read_official(name, shared / "data" / "annotations" / name, split_number=3)
    assert read_source(MANIFESTS / f"{name}_split3.csv.gz") == split.rows


def test_ucf101_rows(tmp_path: Path) -> None:
    """UCF101: the path as it is on disk, the label of its folder, and takes of one scene as a group."""
    split = read_official("ucf101", write_lists("ucf101", tmp_path))
    stand = "HandstandPushups"
    name, test = "v_HandStandPushups_g08_c01", "v_Archery_g01_c01"
    assert split.rows[2:] == [
        SourceRow(name, f"{stand}/{name}.avi", stand, "train", group=f"{stand}_g08"),
        SourceRow(test, f"Archery/{test}.avi", "Archery", "test", group="Archery_g01"),
    ]
    assert split.protocol == "UCF101, official split 1 of 3"
    assert split.official == {"train": 9537, "test": 3783}


def test_hmdb51_rows(tmp_path: Path) -> None:
    """HMDB51: folder and name, 1 trains, 2 tests, 0 is left out; only the wanted split's lists are read."""
    split = read_official("hmdb51", write_lists("hmdb51", tmp_path), split_number=2)
    assert split.rows == [
        SourceRow("a_run_0", "run/a_run_0.avi", "run", "train"),
        SourceRow("a_wave_0", "wave/a_wave_0.avi", "wave", "train"),
        SourceRow("b_[NEW]!_wave_1", "wave/b_[NEW]!_wave_1.avi", "wave", "test"),
    ]
    assert split.protocol == "HMDB51, official split 2 of 3"


def test_breakfast_rows(tmp_path: Path) -> None:
    """Breakfast: the name of the list, the activity as label, the person as group."""
    split = read_official("breakfast", write_lists("breakfast", tmp_path))
    name = "P17_stereo01_P17_coffee"
    assert split.rows[1] == SourceRow(name, f"{name}.avi", "coffee", "train", group="P17")
    assert [row.split for row in split.rows] == ["train", "train", "test"]


def test_breakfast_by_person(tmp_path: Path) -> None:
    """The first 44 persons in natural order train, the others test, whichever list they stood in."""
    lines = [f"P{n}_cam01_P{n}_tea.avi 1 100\n" for n in range(98, 150)]
    changes = {"s1_train": "".join(lines[26:]), "s1_test": "".join(lines[:26])}
    folder = write_lists("breakfast", tmp_path, **changes)
    split = read_official("breakfast_persons", folder)
    groups = [(row.split, row.group) for row in split.rows]
    assert sorted(groups[:44]) == sorted(("train", f"P{n}") for n in range(98, 142))
    assert groups[44:] == [("test", f"P{n}") for n in range(142, 150)]
    assert "first 44 persons" in split.protocol


@pytest.mark.parametrize(("version", "video"), [(1, "78"), (2, "78.webm")])
def test_something_rows(tmp_path: Path, version: int, video: str) -> None:
    """Something-Something: a folder in V1, a .webm in V2; validation is test; labels keep their commas."""
    name = f"something_v{version}"
    split = read_official(name, write_lists(name, tmp_path))
    assert split.rows[0] == SourceRow("78", video, "Lifting it, then dropping it", "train")
    assert [row.split for row in split.rows] == ["train", "train", "test"]
    assert "validation list" in split.protocol


@pytest.mark.parametrize(("version", "video"), [(1, "78"), (2, "78.webm")])
def test_something_json(tmp_path: Path, version: int, video: str) -> None:
    """The official JSON lists give the same rows: a template without its brackets is the class."""
    (tmp_path / "labels.json").write_text('{"Holding something": "0", "Lifting something": "1"}')
    train = '[{"id": "78", "label": "lifting a cup", "template": "Lifting [something]"}]'
    (tmp_path / "train.json").write_text(train)
    (tmp_path / "validation.json").write_text('[{"id": 9, "template": "Holding [something]"}]')
    rows = read_official(f"something_v{version}", tmp_path).rows
    assert rows[0] == SourceRow("78", video, "Lifting something", "train")
    assert (rows[1].id, rows[1].label, rows[1].split) == ("9", "Holding something", "test")
    for text, words in (
        ("[", "cannot be read"),
        ("{}", "holds no list"),
        ('[{"id": "1"}]', "entry 0: has no id or template"),
        ("[3]", "entry 0: has no id or template"),
        ('[{"id": "1", "template": "Eating"}]', "entry 0: has 'Eating', which is not in labels"),
    ):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(SourceError, match=words):
            read_official(f"something_v{version}", tmp_path)


BAD_LINES = [
    ("ucf101", "classInd", "1 Archery\n1 Bowling\n", 2, "'1 Bowling' is not a new number"),
    ("ucf101", "classInd", "one Archery\n", 1, "'one Archery' is not a new number"),
    ("ucf101", "trainlist01", "\nArchery/../x.avi 1\n", 2, "'Archery/../x.avi' is not a video"),
    ("ucf101", "testlist01", "Bow/v_Bow_g01_c01.avi\n", 1, "is not a video of a known class"),
    ("ucf101", "trainlist01", "Archery/v_Archery_g08_c01.avi 2\n", 1, "'2' is not the number of"),
    ("ucf101", "trainlist01", "Archery/v_Archery_g08_c01.avi\n", 1, "'' is not the number of"),
    ("ucf101", "testlist01", "Archery/v_Archery_g08_c01.avi 1\n", 1, "is more than a path"),
    ("hmdb51", "run_test_split1", "../a.avi 1\n", 1, "'../a.avi' is not the name"),
    ("hmdb51", "run_test_split1", "a.avi 1\nb.avi 3\n", 2, "'3' is not 0 (unused)"),
    ("hmdb51", "run_test_split1", "a.avi\n", 1, "'' is not 0 (unused)"),
    ("breakfast", "s1_test", "P03_cam01_P04_tea.avi 1 2\n", 1, "is not a video like P03"),
    ("breakfast", "s1_test", "P03_cam01_P03_tea.avi 0 2\n", 1, "'0' is not the number of tea"),
    ("breakfast", "s1_test", "P03_cam01_P03_tea.avi\n", 1, "'' is not the number of tea"),
    ("something_v1", "somesomev1_rgb_train_split", "7 2\n", 1, "'7 2' is not three"),
    ("something_v2", "somesomev2_rgb_validation_split", "7 2 -1\n", 1, "'7 2 -1' is not"),
    ("something_v2", "somesomev2_rgb_train_split", "7 2 2\n", 1, "'2' is not one of the 2"),
    ("something_v2", "somesomev2_rgb_train_split", f"7 2 {'9' * 5000}\n", 1, "is not one of"),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "name", "text", "line", "words"), BAD_LINES)
def test_a_bad_line_is_named(
    tmp_path: Path, dataset: str, name: str, text: str, line: int, words: str
) -> None:
    """A wrong line is an error with file, line and value."""
    folder = write_lists(dataset, tmp_path, **{name: text})
    with pytest.raises(SourceError) as caught:
        read_official(dataset, folder)
    assert str(caught.value).startswith(f"{tmp_path / name}.txt: line {line}: ")
    assert words in str(caught.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    """A list that is not there is an error with its path and what --annotations should be."""
    with pytest.raises(SourceError, match=r"classInd\.txt: cannot be read .*--annotations"):
        read_official("ucf101", tmp_path)
    with pytest.raises(SourceError, match=r"holds no list named CLASS_test_split3\.txt"):
        read_official("hmdb51", write_lists("hmdb51", tmp_path), split_number=3)


def test_a_list_in_another_encoding_is_named(tmp_path: Path) -> None:
    """A list that is not UTF-8 is an error that names it."""
    (write_lists("ucf101", tmp_path) / "testlist01.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"testlist01\.txt: cannot be read \(.*utf-8"):
        read_official("ucf101", tmp_path)


@pytest.mark.parametrize(("dataset", "number"), [("ucf101", 4), ("ucf101", 0), ("something_v1", 2)])
def test_an_unknown_split_is_refused(tmp_path: Path, dataset: str, number: int) -> None:
    """A split that the set does not have is an error with the numbers it has."""
    with pytest.raises(ConfigError, match=rf"--split-number {number}: {dataset} has \d official"):
        read_official(dataset, tmp_path, split_number=number)


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    """Another name than the known ones is an error that lists them."""
    with pytest.raises(ConfigError, match=f"ucf50: .*{', '.join(datasets())}"):
        read_official("ucf50", tmp_path)


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    """Takes of one scene in both splits would leak: the source CSV is not written."""
    folder = write_lists("ucf101", tmp_path, testlist01="Archery/v_Archery_g08_c03.avi\n")
    with pytest.raises(SourceError, match="'Archery_g08' is in test here and in train"):
        write_source(tmp_path / "o.csv", read_official("ucf101", folder).rows)
    assert not (tmp_path / "o.csv").exists()


def test_missing_videos_are_found_out(tmp_path: Path) -> None:
    """Rows keep their order; those without a file are returned beside them."""
    split = read_official("ucf101", write_lists("ucf101", tmp_path))
    rows = split.rows
    (tmp_path / "Archery").mkdir()
    (tmp_path / rows[1].video).touch()
    found, missing = find_videos(split, tmp_path)
    assert found == rows
    assert missing == [rows[0], *rows[2:]]


def test_breakfast_as_its_archive_names_it(tmp_path: Path) -> None:
    """A Breakfast video is found under its list's name, then its archive's; of stereo, channel 0."""
    split = read_official("breakfast", write_lists("breakfast", tmp_path))
    for name in (
        "P16_cam01_P16_tea.avi",
        "P16/cam01/P16_tea.avi",
        "P17/stereo/P17_coffee_ch0.avi",
        "P17/stereo/P17_coffee_ch1.avi",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, missing = find_videos(split, tmp_path)
    assert [row.video for row in found] == [
        "P16_cam01_P16_tea.avi",
        "P17/stereo/P17_coffee_ch0.avi",
        "P03_cam01_P03_tea.avi",
    ]
    assert missing == [found[2]]


def test_breakfast_bundles(shared: Path, tmp_path: Path) -> None:
    """Lists of ground truth hold the videos of the plain lists, with the same splits and labels."""
    folder = shared / "data" / "annotations" / "breakfast"
    for split in ("train", "test"):
        name = f"{split}.split1.bundle"
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = read_official("breakfast", tmp_path)
    assert Counter(row.split for row in found.rows) == found.official
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("classInd.txt", "s1_train.txt", "s1_test.txt"):
        (plain / name).write_bytes((folder / name).read_bytes())
    assert set(found.rows) == set(read_official("breakfast", plain).rows)
    (tmp_path / "test.split1.bundle").write_text("#bundle\n./x/P03_cam01_P04_tea.txt\n")
    with pytest.raises(
        SourceError, match=r"line 2: '\./x/P03_cam01_P04_tea\.txt' is not the ground"
    ):
        read_official("breakfast", tmp_path)


KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"


def test_kinetics(tmp_path: Path) -> None:
    """Lists as published; a clip is found where the usual downloads put it, and missing ones are named."""
    (tmp_path / "train.csv").write_text(
        f'{KINETICS}abseiling,-3B32lodo2M,59,69,train,0\n"tying knot, not on a tie",a_b,5,15,train,1\n'
    )
    (tmp_path / "val.csv").write_text(f"{KINETICS}abseiling,xyz,0,10,val,0\n")
    split = read_official("kinetics", tmp_path)
    assert split.official is None
    assert [(row.id, row.label, row.split) for row in split.rows] == [
        ("-3B32lodo2M_000059_000069", "abseiling", "train"),
        ("a_b_000005_000015", "tying knot, not on a tie", "train"),
        ("xyz_000000_000010", "abseiling", "test"),
    ]
    for name in ("train/-3B32lodo2M_000059_000069.mp4", "val/abseiling/xyz_000000_000010.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    found, missing = find_videos(split, tmp_path)
    assert [row.video for row in found if row not in missing] == [
        "train/-3B32lodo2M_000059_000069.mp4",
        "val/abseiling/xyz_000000_000010.mp4",
    ]
    assert [row.id for row in missing] == ["a_b_000005_000015"]


@pytest.mark.parametrize(
    "line", ["abseiling,x,0\n", "abseiling,x,a,b,train,0\n", "abseiling,x,nan,1,t,0\n"]
)
def test_a_bad_line_of_kinetics_is_named(tmp_path: Path, line: str) -> None:
    """By file and line, with the next step."""
    (tmp_path / "train.csv").write_text(KINETICS + line)
    with pytest.raises(SourceError, match=r"train\.csv: line 2: has not the columns label"):
        read_official("kinetics", tmp_path)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(SourceError, match=r"train\.csv: cannot be read"):
        read_official("kinetics", tmp_path)
