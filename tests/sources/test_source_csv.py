"""The source CSV: what people and spreadsheets write is read, and every mistake is named by its place."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fvar.errors import SourceError
from fvar.sources.source_csv import SourceRow, class_names, read_source, video_path, write_source

HEADER = "id,video,label,split"


def _csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "source.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_plain_file(tmp_path: Path) -> None:
    """Every column arrives, and empty optional cells are None."""
    text = "start_seconds,end_seconds,group\na,x/a.mp4,run,train,0.5,2,g\nb,b.mp4,run,test,,,\n"
    assert read_source(_csv(tmp_path, f"{HEADER},{text}")) == [
        SourceRow("a", "x/a.mp4", "run", "train", 0.5, 2.0, "g"),
        SourceRow("b", "b.mp4", "run", "test"),
    ]


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes, any order of columns and blank rows at the end are all fine."""
    text = 'split,label,video,id\r\ntrain,"a, ""b""","-v [1]\'s.mp4",1\r\n\r\n,,,\r\n'
    rows = read_source(_csv(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert rows == [SourceRow("1", "-v [1]'s.mp4", 'a, "b"', "train")]


BAD_ROWS = [
    ("", "line 1", "column 'id' is missing"),
    (f"{HEADER}\n", "", "lists no video"),
    ("id;video;label;split\n", "line 1", "'id;video;label;split' is one column"),
    (f"{HEADER},speed\n", "line 1", "column 'speed' is not known"),
    (f"{HEADER},id\n", "line 1", "column 'id' comes twice"),
    ("\n\nid,video,label\n", "line 3", "column 'split' is missing"),
    (f"{HEADER}\na,v,x,train\nb,v,x\n", "line 3", "has 3 cells beginning with 'b', the header has 4"),
    (f"{HEADER}\na,v,x,train,\n", "line 2", "has 5 cells"),
    (f'{HEADER}\na,v,"x,train\n', "line 2", "is not CSV"),
    (f'{HEADER}\na,v,"x"y,train\n', "line 2", "is not CSV"),
    (f"{HEADER}\na,v,{'x' * 200_000},train\n", "line 2", "field larger than field limit"),
    (f"{HEADER}\na,v,x,train\na,w,x,train\n", "line 3, column id", "'a' is also the id of line 2"),
    (f"{HEADER}\na,v,x,train\nb,v,y,test\n", "line 3, column label", "'y' is in test but no train"),
    (f"{HEADER}\na,v,x,train\nb,v,,val\n", "line 3, column label", "'' is empty in split val"),
    (f"{HEADER}\na,v,,train\n", "line 2, column label", "'' is empty in split train"),
    (f"{HEADER},group\na,v,x,train,g\nb,v,x,test,g\n", "line 3, column group", "'g' is in test here and"),
]  # fmt: skip
BAD_CELLS = [
    ("id", "", "''", "at least 1 character"),
    ("id", '"a\nb"', r"'a\nb'", "control or invisible"),
    ("id", "a\u202eb", r"'a\u202eb'", "control or invisible"),
    ("id", "a" * 201, "'aaaaaaaa", "at most 200 characters"),
    ("label", " x", "' x'", "begins or ends with a blank"),
    ("group", "g ", "'g '", "begins or ends with a blank"),
    ("video", "a" * 4097, "'aaaaaaaa", "at most 4096 characters"),
    ("video", "/v", "'/v'", "is absolute"),
    ("video", "C:/v", "'C:/v'", "is absolute"),
    ("video", "C:\\v", r"'C:\\v'", "is absolute"),
    ("video", "b\\v", r"'b\\v'", "backslash"),
    ("video", "b/../../v", "'b/../../v'", "leaves the folder by '..'"),
    ("split", "Train", "'Train'", "'train', 'val' or 'test'"),
    ("start_seconds", "x", "'x'", "is not a time"),
    ("start_seconds", "-1", "'-1'", "greater than or equal to 0"),
    ("start_seconds", "nan", "'nan'", "is not a time"),
    ("start_seconds", "1e400", "'1e400'", "finite number"),
    ("start_seconds", "1e", "'1e'", "valid number"),
    ("start_seconds", "1_0", "'1_0'", "is not a time"),
    ("start_seconds", '"1,5"', "'1,5'", "is not a time"),
    ("start_seconds", "9" * 50, "'9999", "is not a time"),
    ("end_seconds", "inf", "'inf'", "is not a time"),
    ("end_seconds", "1", "1.0", "later than start_seconds, 1"),
    ("end_seconds", "0", "0.0", "later than start_seconds, 1"),
]


def refusal(path: Path) -> str:
    """Return the one line by which a file is refused."""
    with pytest.raises(SourceError) as caught:
        read_source(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message.split("; ")) >= 2
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(("text", "place", "problem"), BAD_ROWS)
def test_mistakes_are_named(tmp_path: Path, text: str, place: str, problem: str) -> None:
    """A mistake in the header, a row or between rows is one line with file, line, value, rule and fix."""
    message = refusal(_csv(tmp_path, text))
    assert message.startswith(place)
    assert problem in message


@pytest.mark.parametrize(("column", "cell", "value", "rule"), BAD_CELLS)
def test_cells_are_checked(tmp_path: Path, column: str, cell: str, value: str, rule: str) -> None:
    """A wrong cell is one line with file, line, column, value, rule and fix."""
    row = {"id": "a", "video": "v", "label": "x", "split": "train", "start_seconds": "1"}
    row[column] = cell
    text = f"{','.join(row)}\n{','.join(row.values())}\n"
    message = refusal(_csv(tmp_path, text))
    assert message.startswith(f"line 2, column {column}: {value}")
    assert rule in message


def test_a_test_row_may_have_no_label(tmp_path: Path) -> None:
    """What is to be predicted is not known yet; an empty label is no class."""
    rows = read_source(_csv(tmp_path, f"{HEADER}\na,v,x,train\nb,w,,test\n"))
    assert [row.label for row in rows] == ["x", ""]
    assert class_names(rows) == ["x"]
    write_source(tmp_path / "s.csv", rows)
    assert read_source(tmp_path / "s.csv") == rows


def test_labels_need_no_training_rows_without_training(tmp_path: Path) -> None:
    """A file with only test rows is for evaluation: its labels need not be learned."""
    assert len(read_source(_csv(tmp_path, f"{HEADER}\na,v,x,test\n"))) == 1


def test_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    """A byte that is not UTF-8 is an error with its line and what to do."""
    path = _csv(tmp_path, f"{HEADER}\na,v,".encode() + b"caf\xe9,train\n")
    with pytest.raises(SourceError, match=r"line 2: byte 0xe9 is not UTF-8; save the file as CSV"):
        read_source(path)


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, a folder and archives that are foreign or cut off are errors that name them."""
    write_source(tmp_path / "whole.csv.gz", [SourceRow("a", "v", "x", "train")])
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "whole.csv.gz").read_bytes()[:-9])
    (tmp_path / "foreign.csv.gz").write_bytes(b"not packed")
    for name in ("none.csv", "none.csv.gz", "cut.csv.gz", "foreign.csv.gz"):
        assert "cannot be read (" in refusal(tmp_path / name)
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz"])
def test_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file is read up to a limit, which counts the unpacked bytes of an archive."""
    write_source(tmp_path / name, [SourceRow("a" * 200, "v" * 4000, "x", "train")])
    monkeypatch.setattr("fvar.sources.source_csv._MAX_FILE_BYTES", 4000)
    assert "has more than 4000 bytes" in refusal(tmp_path / name)


def test_packing_adds_nothing(tmp_path: Path) -> None:
    """The same rows make the same archive under any name, and what comes out is what was put in."""
    rows = [SourceRow("a", "v", "x", "train", 0.5, None, "g")]
    for name in ("a.csv.gz", "b.csv.gz", "c.csv"):
        write_source(tmp_path / name, rows)
    a, b, plain = (tmp_path / name for name in ("a.csv.gz", "b.csv.gz", "c.csv"))
    assert a.read_bytes() == b.read_bytes()
    assert gzip.decompress(a.read_bytes()) == plain.read_bytes()
    assert read_source(a) == rows


_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z", "Cf"]), min_size=1, max_size=30
).filter(lambda text: text.isprintable())
_times = st.tuples(st.floats(0, 1e6), st.floats(1e6, 1e9, exclude_min=True))
_rows = st.builds(
    lambda name, label, times: SourceRow(name, "v.mp4", label, "train", *times),
    _names,
    _names,
    st.just((None, None)) | _times,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_rows, min_size=1, max_size=6, unique_by=lambda row: row.id))
def test_written_rows_are_read_back(tmp_path: Path, rows: list[SourceRow]) -> None:
    """Writing then reading is the identity, quotes, commas and long fractions included."""
    write_source(tmp_path / "s.csv", rows)
    assert read_source(tmp_path / "s.csv") == rows


def test_unused_columns_are_left_out(tmp_path: Path) -> None:
    """An optional column is written only where a row uses it."""
    write_source(tmp_path / "s.csv", [SourceRow("a", "v", "x", "train", group="g")])
    assert (tmp_path / "s.csv").read_text() == "id,video,label,split,group\na,v,x,train,g\n"


def test_bad_rows_are_not_written(tmp_path: Path) -> None:
    """What could not be read back is refused before anything is written."""
    with pytest.raises(SourceError, match="leaves the folder"):
        write_source(tmp_path / "s.csv", [SourceRow("a", "../v", "x", "train")])
    assert not list(tmp_path.iterdir())


def test_classes_are_in_natural_order() -> None:
    """`2` comes before `10`, and each label once."""
    labels = ["10", "2", "b10", "b9", "b", "10", "a 2", "a 10", "²"]
    rows = [SourceRow(str(n), "v", label, "train") for n, label in enumerate(labels)]
    assert class_names(rows) == ["2", "10", "a 2", "a 10", "b", "b9", "b10", "²"]


def test_links_never_leave_the_folder(tmp_path: Path) -> None:
    """A symbolic link may point inside the folder, never out of it."""
    root = tmp_path / "videos"
    root.mkdir()
    (root / "in.mp4").symlink_to(root / "real.mp4")
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    assert video_path(root, SourceRow("a", "in.mp4", "x", "train")) == root.resolve() / "real.mp4"
    with pytest.raises(SourceError, match=r"id 'b': video 'out.mp4' is a link to .*secret.mp4"):
        video_path(root, SourceRow("b", "out.mp4", "x", "train"))


def test_segments_by_numbers_of_frames(tmp_path: Path) -> None:
    """Frames count from 0; a row has frames or seconds, and the end is after the start."""
    text = "id,video,label,split,start_frame,end_frame,start_seconds\na,v,x,train,{}\n"
    (row,) = read_source(_csv(tmp_path, text.format("3,10,")))
    assert (row.start_frame, row.end_frame, row.start_seconds) == (3, 10, None)
    write_source(tmp_path / "again.csv", [row])
    assert read_source(tmp_path / "again.csv") == [row]
    for cells, problem in (
        ("3,3,", "must be more than start_frame, 3"),
        ("-1,,", "is not the number of a frame"),
        ("1.5,,", "is not the number of a frame"),
        ("3,,1.0", "is beside a time; give frames or seconds"),
    ):
        assert problem in refusal(_csv(tmp_path, text.format(cells)))
