"""Overlapping labels of one video: the shortest part that holds a clip's middle counts, in any order of the rows."""

from itertools import permutations

import pytest

from c3dvideo.datasets.examples import Example
from c3dvideo.datasets.labelled_parts import is_whole, labels_at


def part(label: str, start: float | None, end: float | None) -> Example:
    return Example("a.mp4", label, start_seconds=start, end_seconds=end)


ROWS = (part("video", None, None), part("from 1", 1.0, None), part("to 4", None, 4.0), part("2 to 3", 2.0, 3.0))


@pytest.mark.parametrize("rows", list(permutations(ROWS)))
def test_the_shortest_part_counts_in_any_order(rows: tuple[Example, ...]) -> None:
    assert labels_at(rows, [0.5, 2.0, 3.0, 5.0]) == ["to 4", "2 to 3", "to 4", "from 1"]


def test_of_equally_long_parts_the_last_counts() -> None:
    rows = [part("first", 0.0, 2.0), part("last", 1.0, 3.0), part("video", None, None), part("again", None, None)]
    assert labels_at(rows, [0.5, 1.5, 2.5, 3.5]) == ["first", "last", "last", "again"]


def test_clips_without_times_have_the_label_of_the_whole() -> None:
    assert labels_at(ROWS, [float("nan")]) == ["video"]
    assert labels_at(ROWS[1:], [float("nan")]) == [None]
    assert [is_whole(row) for row in ROWS] == [True, False, False, False]
