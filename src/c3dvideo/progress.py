"""Progress bars on stderr, drawn only on a terminal and gone when the work is done.

    with progress("extracting", total=118, unit="clips") as bar:
        bar.advance(24)                    # extracting ━━━━━━━━━━ 24/118 clips  3.4 clips/s  0:28 left

A bar inside another bar is drawn below it.
"""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

Item = TypeVar("Item")

_WINDOW_SECONDS = 30.0  # a rate is an average over this time, or over the time since the start
_FIRST_SECONDS = 1.0  # no rate before: the first units may have come in one burst
_SAMPLE_SECONDS = 0.25
_MEGABYTE = 1_000_000

_drawn: list[Progress] = []


class Rate:
    """Units per second over the last half minute, from counts and the times at which they were reported."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._samples = deque([(now, 0.0)])

    def count(self, done: float, now: float) -> None:
        """Record that `done` units are finished at the time `now`, in seconds."""
        if len(self._samples) > 1 and now - self._samples[-2][0] < _SAMPLE_SECONDS:
            self._samples.pop()
        self._samples.append((now, done))
        # The sample before the window stays: units that take longer than the window have a rate too.
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW_SECONDS:
            self._samples.popleft()

    def per_second(self, now: float) -> float | None:
        """The rate at `now`; it falls while nothing is finished. None before it means anything."""
        (since, before), (_, done) = self._samples[0], self._samples[-1]
        if done == before or now - self._started < _FIRST_SECONDS:
            return None
        return (done - before) / (now - since)


class Bar:
    """One running progress bar. Without a terminal every method only counts."""

    def __init__(self, display: Progress | None, description: str, total: float | None, unit: str) -> None:
        self._display = display
        self._unit = unit
        self._total = total
        self._about = False
        self._worked = 0.0
        self._skipped = 0.0
        self._note = ""
        self._rate = Rate(time.monotonic())
        self._task = None if display is None else display.add_task(description, total=total, bar=self)

    @property
    def drawn(self) -> bool:
        """Whether there is a terminal to draw on; a long run may log lines where there is none."""
        return self._display is not None

    def advance(self, n: float = 1) -> None:
        """Count `n` more units as done."""
        self._worked += n
        self._rate.count(self._worked, time.monotonic())
        self._update()

    def skip(self, n: float) -> None:
        """Count `n` more units as done that took no work now, as before a restart; the rate leaves them out."""
        self._skipped += n
        self._update()

    def expect(self, total: float | None, *, about: bool = False) -> None:
        """Set the total; None is unknown, `about` marks an estimate, which is shown with a ~."""
        self._total, self._about = total, about
        self._update()

    def note(self, text: str) -> None:
        """Show a short remark behind the bar, in place of the one before."""
        self._note = text

    def remove(self) -> None:
        """Take the bar off the terminal."""
        if self._display is not None and self._task is not None:
            self._display.remove_task(self._task)

    def __str__(self) -> str:
        done, total = self._worked + self._skipped, self._shown_total()
        about = "~" if self._about else ""
        scale, unit = (_MEGABYTE, "MB") if self._unit == "bytes" else (1, self._unit)
        parts = [f"{done / scale:.0f}" + (f"/{about}{total / scale:.0f}" if total is not None else "") + f" {unit}"]
        rate = self._rate.per_second(time.monotonic())
        if rate:
            parts.append(_rate_text(rate / scale, unit))
            if total is not None and total > done:
                parts.append(f"{about}{_time_text((total - done) / rate)} left")
        return "  ".join([*parts, self._note] if self._note else parts)

    def _shown_total(self) -> float | None:
        return None if self._total is None else max(self._total, self._worked + self._skipped)

    def _update(self) -> None:
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=self._worked + self._skipped, total=self._shown_total())


class _Line(ProgressColumn):
    """Count, rate and time left, computed at every refresh, so that a rate falls while nothing is finished."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["bar"]))


@contextmanager
def progress(description: str, *, total: float | None = None, unit: str = "items") -> Iterator[Bar]:
    """A progress bar with the count, the rate and, where `total` is known, the time left."""
    if not sys.stderr.isatty():  # rich would draw into a pipe under FORCE_COLOR
        yield Bar(None, description, total, unit)
        return
    with ExitStack() as stack:
        if not _drawn:
            columns = TextColumn("{task.description}"), BarColumn(bar_width=24), _Line()
            _drawn.append(stack.enter_context(Progress(*columns, console=Console(file=sys.stderr), transient=True)))
            stack.callback(_drawn.pop)
        bar = Bar(_drawn[-1], description, total, unit)
        stack.callback(bar.remove)
        yield bar


def track(items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "items") -> Iterator[Item]:
    """Yield from `items` under a progress bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total=total, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()


def _rate_text(rate: float, unit: str) -> str:
    if rate < 0.1:
        one = unit.removesuffix("es") if unit.endswith("ches") else unit.removesuffix("s")
        return f"{1 / rate:.0f} s per {one}"
    return f"{rate:.{0 if rate >= 10 else 1}f} {unit}/s"


def _time_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
