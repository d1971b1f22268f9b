"""Foreign tables: rows with their lines, and one named error with the line for every fault."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_tables import LINE_CHARACTERS, csv_columns, csv_rows, parse_integer, parse_number, write_rows


def table(folder: Path, content: str | bytes) -> ForeignFile:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return ForeignFile(path, error=DatasetError, expected="a table of labels")


def test_rows_come_with_their_cells_and_lines(tmp_path: Path) -> None:
    file = table(tmp_path, '\ufeffpath, label,split\r\na.mp4, x ,train\r\n\r\n"b,\nc.mp4",y\r\n')
    rows = list(csv_rows(file, required=("path", "label")))
    assert [row.values for row in rows] == [
        {"path": "a.mp4", "label": "x", "split": "train"},
        {"path": "b,\nc.mp4", "label": "y", "split": ""},
    ]
    assert [row.line for row in rows] == [2, 5]
    assert rows[0].where == f"{tmp_path}/labels.csv, line 2"
    assert csv_columns(file) == ("path", "label", "split")


def test_line_ends_of_old_macs_are_line_ends(tmp_path: Path) -> None:
    assert [row.text("path") for row in csv_rows(table(tmp_path, "path\ra\rb\r"), required=("path",))] == ["a", "b"]


def test_empty_cells_behind_the_last_column_are_no_fault(tmp_path: Path) -> None:
    assert [row.values for row in csv_rows(table(tmp_path, "path,,\na,,,\n"))] == [{"path": "a"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no column 'path' and no column 'label'; its first line is ''"),
        (b"path;label\na;b\n", "it has no column 'path' and no column 'label'; its first line is 'path;label'"),
        (b"path,label,label\na,b,c\n", "it has two columns 'label'"),
        (b"path,label\na,b,c\n", "line 2, is not a table of labels: it has 3 cells for 2 columns; put quotes around"),
        (b"path,label\na,b\nc\n", "line 3, is not a table of labels: it ends before the column 'label'"),
        (b"path,label\na,M\xe9i\n", "line 2, is not a table of labels: byte 0xe9 is not UTF-8 text"),
        ("path,label\na,b\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b"path,label\na,b\n\0,c\n", "line 3, is not a table of labels: it contains a NUL byte"),
        (b'path,label\na,"b\nc,d\n', "line 3, is not a table of labels: unexpected end of data"),
        (b"path,label\na," + b"x" * 200_000, "line 2, is not a table of labels: field larger than field limit"),
        (b"path,label\n" + b"a," * (LINE_CHARACTERS // 2 + 1), "line 2, is not a table of labels: it has more than"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DatasetError) as raised:
        list(csv_rows(table(tmp_path, content), required=("path", "label")))
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_cells_are_read_as_what_they_should_be(tmp_path: Path) -> None:
    (row,) = csv_rows(table(tmp_path, "path,n,t,empty,bad\na,-3,1.5e1,,inf\n"))
    assert (row.integer("n"), row.number("t"), row.number("empty"), row.integer("absent")) == (-3, 15.0, None, None)
    with pytest.raises(DatasetError, match=r"labels.csv, line 2: the column 'empty' is empty$"):
        row.text("empty")
    with pytest.raises(DatasetError, match=r"labels.csv, line 2: bad is 'inf'; expected a number$"):
        row.number("bad")
    with pytest.raises(DatasetError, match=r"labels.csv, line 2: n is '-3'; expected a whole number of at least 0$"):
        row.integer("n", minimum=0)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "1_000", "0x10", "1,5", "١", "one", "--1"])
def test_only_finite_decimal_numbers_are_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="stride is"):
        parse_number(text, what="stride")
    with pytest.raises(UsageError, match="stride is"):
        parse_integer(text, what="stride")


@pytest.mark.parametrize("text", ["9" * 19, "9" * 100_000, "1.0", "1e3"])
def test_whole_numbers_fit_an_int64(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_integer(text, what="frame")
    assert len(str(raised.value)) < 200
    assert parse_integer("9" * 18, what="frame") == 10**18 - 1


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_or_the_named_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = table(tmp_path_factory.getbasetemp(), b"path,label\n" + content)
    try:
        for row in csv_rows(file, required=("path", "label")):
            assert set(row.values) == {"path", "label"}
    except DatasetError as error:
        assert "\n" not in str(error)


ODD_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(' \t",\r\n'), max_size=12)


@given(st.lists(st.lists(ODD_CELLS, min_size=2, max_size=2).filter(any), max_size=4))
def test_written_rows_are_read_back_cell_for_cell(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    file = table(tmp_path_factory.getbasetemp(), b"")
    with Path(file.path).open("w", encoding="utf-8", newline="") as text:
        write_rows(text, [["path", "label"], *rows])
    assert [list(row.values.values()) for row in csv_rows(file)] == rows


def test_only_cells_without_quotes_are_stripped(tmp_path: Path) -> None:
    file = table(tmp_path, '"path ", n\n" a\n"", b.mp4 "," 3 "\n" c.mp4", 4 \n d"e , 5\n')
    assert [(row.text("path "), row.integer("n")) for row in csv_rows(file)] == [
        (' a\n", b.mp4 ', 3),
        (" c.mp4", 4),
        ('d"e', 5),
    ]
    assert csv_columns(file) == ("path ", "n")
