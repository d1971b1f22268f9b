"""Which label a clip has where labelled parts of its video overlap: one rule for the index and the page.

labels_at([Example("a.mp4", "walking"), Example("a.mp4", "waving", start_seconds=2, end_seconds=4)], [1.0, 3.0])
# ["walking", "waving"]
"""

from collections.abc import Iterable

import numpy as np

from c3dvideo.datasets.examples import Example


def labels_at(rows: Iterable[Example], middles: Iterable[float]) -> list[str | None]:
    """The label of each clip: that of the shortest labelled part that holds its middle, or None.

    rows: of one video. middles: seconds. A whole video is longer than any part; of equally long parts the last row
    counts.

    >>> part = Example("a.mp4", "jump", start_seconds=2.0, end_seconds=3.0)
    >>> labels_at([part, Example("a.mp4", "run", start_seconds=1.0, end_seconds=5.0)], [0.5, 1.5, 2.5])
    [None, 'run', 'jump']
    """
    moments = np.fromiter(middles, float)
    found: list[str | None] = [None] * len(moments)
    # The shortest part comes last, and so overwrites the others; sorting keeps the order of equally long ones.
    for row in sorted(rows, key=_length, reverse=True):
        start, end = _span(row)
        # The clips of a frame folder have no times, and only a label of the whole folder.
        holds = (start <= moments) & (moments < end) | is_whole(row)
        for clip in np.flatnonzero(holds).tolist():
            found[clip] = row.label
    return found


def is_whole(row: Example) -> bool:
    """Whether the row is about a whole video."""
    return row.start_seconds is None and row.end_seconds is None


def _span(row: Example) -> tuple[float, float]:
    return row.start_seconds or 0.0, np.inf if row.end_seconds is None else row.end_seconds


def _length(row: Example) -> tuple[bool, float]:
    start, end = _span(row)
    return is_whole(row), end - start
