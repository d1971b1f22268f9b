"""CSV tables that somebody else wrote, with the line of every fault, numbers in text, and a writer of such tables.

labels = ForeignFile(path, error=DatasetError, expected="a table of labels")
for row in csv_rows(labels, required=("path", "label")):
    row.text("path")                                    # never empty
    row.number("start_seconds", minimum=0)              # a finite float; None where the cell is empty
    row.values.get("group", ""), row.where              # "g01", "labels.csv, line 2"

write_rows(text, [["path", "label"], [" a.mp4", "x"]])    # csv_rows gives the same cells back
parse_integer(text, what="annotations.lst, line 3: first frame", error=DatasetError, minimum=0)
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from math import isfinite
from typing import IO, Any

from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.reading import MEBIBYTE, ForeignFile, not_utf8, opened

LINE_CHARACTERS = 16 * MEBIBYTE
"""Longest line of a table; tables are read line by line, so their size has no limit."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CELL = re.compile(r',(?:(")(?:[^"]|"")*+"|[^,]*)')
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Row:
    """One row of a table: its cells by column, and its line in the file.

    A cell is without surrounding blanks, unless it stood in quotes.
    """

    values: dict[str, str]
    line: int
    file: ForeignFile

    @property
    def where(self) -> str:
        """The place as text: "labels.csv, line 2"."""
        return f"{self.file.path}, line {self.line}"

    def wrong(self, reason: str) -> C3DVideoError:
        """The error to raise about this row: "labels.csv, line 2: the column 'label' is empty"."""
        return self.file.error(f"{self.where}: {reason}")

    def text(self, column: str) -> str:
        """The text of a cell; raises the file's error when it is empty."""
        if not self.values.get(column):
            raise self.wrong(f"the column {column!r} is empty")
        return self.values[column]

    def number(self, column: str, *, minimum: float | None = None) -> float | None:
        """The finite number in a cell, None where it is empty; raises the file's error for anything else."""
        value = self.values.get(column, "").strip()
        what = f"{self.where}: {column}"
        return parse_number(value, what=what, error=self.file.error, minimum=minimum) if value else None

    def integer(self, column: str, *, minimum: int | None = None) -> int | None:
        """The whole number in a cell, None where it is empty; raises the file's error for anything else."""
        value = self.values.get(column, "").strip()
        what = f"{self.where}: {column}"
        return parse_integer(value, what=what, error=self.file.error, minimum=minimum) if value else None


def csv_rows(file: ForeignFile, *, required: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a UTF-8 CSV file whose first line names its columns, read line by line.

    Rows may leave out optional columns at their end; empty lines are skipped. Raises the file's error, with the line,
    for: a missing column of `required`, two columns of one name, more cells than columns, a row that ends before a
    required column, text that is not UTF-8, a NUL, an open quote at the end, a cell of more than 131,072 characters.
    """
    with opened(file) as stream:
        records = _records(stream, file)
        columns = next(records, ([], 1))[0]
        _check_columns(columns, required, file)
        for cells, line in records:
            if any(cells):
                yield Row(_cells(columns, cells, required, line, file), line, file)


def csv_columns(file: ForeignFile) -> tuple[str, ...]:
    """The column names in the first line of a UTF-8 CSV file, () when it is empty; raises its error as `csv_rows`."""
    with opened(file) as stream:
        return tuple(next(_records(stream, file), ([], 1))[0])


def write_rows(file: IO[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV (RFC 4180) that `csv_rows` reads back cell for cell; None gives an empty cell.

    A row of which a cell begins or ends with a blank is written in quotes, because readers strip other cells.
    """
    plain, quoted = csv.writer(file), csv.writer(file, quoting=csv.QUOTE_ALL)
    for row in rows:
        blanks = any(isinstance(cell, str) and cell != cell.strip() for cell in row)
        (quoted if blanks else plain).writerow(row)


def _records(stream: IO[bytes], file: ForeignFile) -> Iterator[tuple[list[str], int]]:
    """The cells of each record and the number of its last line; cells in quotes keep their outer blanks."""
    raw: list[str] = []

    def kept() -> Iterator[str]:
        for line in _text_lines(stream, file):
            raw.append(line)
            yield line

    lines = csv.reader(kept(), strict=True)
    try:
        for cells in lines:
            if any(cell != cell.strip() for cell in cells):
                # The csv module does not report which cells were quoted. A strict reader has accepted this record, so
                # its quotes are in order.
                starts = [cell[1] == '"' for cell in _CELL.finditer("," + "".join(raw))]
                cells = [cell if in_quotes else cell.strip() for cell, in_quotes in zip(cells, starts, strict=True)]
            yield cells, lines.line_num
            raw.clear()
    except csv.Error as cause:
        raise file.wrong(str(cause), line=lines.line_num) from cause


def _text_lines(stream: IO[bytes], file: ForeignFile) -> Iterator[str]:
    """The lines of a text file with their ends, each decoded by itself, so that an error can name its line."""
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        number = 0
        while line := text.readline(LINE_CHARACTERS):
            number += 1
            if len(line) == LINE_CHARACTERS:
                raise file.wrong(f"it has more than {LINE_CHARACTERS:,} characters", line=number)
            try:
                line.encode()
            except UnicodeEncodeError as cause:
                byte = ord(line[cause.start]) - 0xDC00
                utf16 = number == 1 and cause.start == 0 and byte in (0xFE, 0xFF)
                reason = "it is UTF-16; save it as UTF-8" if utf16 else not_utf8(byte, file)
                raise file.wrong(reason, line=number) from cause
            if "\0" in line:
                raise file.wrong("it contains a NUL byte", line=number)
            yield line


def _check_columns(columns: Sequence[str], required: Sequence[str], file: ForeignFile) -> None:
    absent = [name for name in required if name not in columns]
    if absent:
        names = " and no column ".join(map(repr, absent))
        raise file.wrong(f"it has no column {names}; its first line is {','.join(columns)[:200]!r}")
    doubled = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if doubled:
        raise file.wrong(f"it has two columns {doubled[0]!r}")


def _cells(
    columns: Sequence[str], cells: list[str], required: Sequence[str], line: int, file: ForeignFile
) -> dict[str, str]:
    """The cells of one row by column; an optional column that the row leaves out is empty."""
    if any(cells[len(columns) :]):
        count = f"it has {len(cells)} cells for {len(columns)} columns"
        raise file.wrong(f"{count}; put quotes around a cell that holds a comma", line=line)
    for name in required:
        if columns.index(name) >= len(cells):
            raise file.wrong(f"it ends before the column {name!r}", line=line)
    cells = cells + [""] * (len(columns) - len(cells))
    return {name: cell for name, cell in zip(columns, cells, strict=False) if name}


def parse_number(
    text: str, *, what: str, error: type[C3DVideoError] = UsageError, minimum: float | None = None
) -> float:
    """The finite number in a text; raises `error` for NaN, infinities, other text and numbers below `minimum`."""
    value = float(text) if _NUMBER.fullmatch(text.strip()) else float("nan")
    if not isfinite(value) or (minimum is not None and value < minimum):
        at_least = "" if minimum is None else f" of at least {minimum:g}"
        raise error(f"{what} is {text[:60]!r}; expected a number{at_least}")
    return value


def parse_integer(text: str, *, what: str, error: type[C3DVideoError] = UsageError, minimum: int | None = None) -> int:
    """The whole number in a text, of at most 18 digits; raises `error` for other text and numbers below `minimum`."""
    value = int(text) if _INTEGER.fullmatch(text.strip()) else None
    if value is None or (minimum is not None and value < minimum):
        at_least = "" if minimum is None else f" of at least {minimum}"
        raise error(f"{what} is {text[:60]!r}; expected a whole number{at_least}")
    return value
