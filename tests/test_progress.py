"""Progress bars: whole numbers, rates over time that passed, time left, and nothing without a terminal."""

import io
import re
import sys
from collections.abc import Callable

import pytest

from c3dvideo.progress import Rate, progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(written: str) -> list[str]:
    """The lines that a terminal shows in the end: carriage returns, line erasures and cursor moves up are followed."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token.startswith("\x1b[") and token.endswith("A"):
            row -= int(token[2:-1])
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token
    return [line for line in lines if line.strip()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that progress bars see."""
    now = [100.0]
    monkeypatch.setattr("c3dvideo.progress.time.monotonic", lambda: now[0])

    def set_time(seconds: float) -> None:
        now[0] = 100.0 + seconds

    return set_time


def test_a_rate_is_units_over_the_time_that_passed() -> None:
    rate = Rate(0.0)
    assert rate.per_second(0.5) is None
    rate.count(16, 0.01)
    assert rate.per_second(0.01) is None, "a burst at the start is no rate"
    assert rate.per_second(2.0) == pytest.approx(8.0)
    rate.count(40, 4.0)
    assert rate.per_second(4.0) == pytest.approx(10.0)
    assert rate.per_second(8.0) == pytest.approx(5.0), "nothing was finished since: the rate falls"


def test_a_rate_forgets_what_was_long_ago() -> None:
    rate = Rate(0.0)
    for second in range(1, 121):
        rate.count(second if second < 60 else 60 + 3 * (second - 60), float(second))
    assert rate.per_second(120.0) == pytest.approx(3.0)


def test_units_that_take_minutes_have_a_rate() -> None:
    rate = Rate(0.0)
    rate.count(1, 90.0)
    rate.count(2, 180.0)
    assert rate.per_second(180.0) == pytest.approx(1 / 90)


def test_whole_numbers_a_rate_and_the_time_left(clock: Callable[[float], None]) -> None:
    with progress("extracting", total=117.71666, unit="clips") as bar:
        assert str(bar) == "0/118 clips"
        bar.advance(24)
        clock(8)
        assert str(bar) == "24/118 clips  3.0 clips/s  0:31 left"
        bar.note("a.mp4")
        assert str(bar).endswith("left  a.mp4")


def test_an_estimated_total_and_an_unknown_one(clock: Callable[[float], None]) -> None:
    with progress("extracting", unit="clips") as bar:
        clock(2)
        bar.advance(100)
        assert str(bar) == "100 clips  50 clips/s"
        bar.expect(200.4, about=True)
        assert str(bar) == "100/~200 clips  50 clips/s  ~0:02 left"
        bar.expect(60)
        assert str(bar) == "100/100 clips  50 clips/s"


def test_what_was_done_before_is_in_the_count_and_not_in_the_rate(clock: Callable[[float], None]) -> None:
    with progress("weights", total=300_000_000, unit="bytes") as bar:
        bar.skip(200_000_000)
        clock(10)
        bar.advance(20_000_000)
        assert str(bar) == "220/300 MB  2.0 MB/s  0:40 left"


@pytest.mark.parametrize(("seconds", "text"), [(2, "5.0 batches/s"), (200, "20 s per batch"), (0.5, "10/7300 batches")])
def test_slow_and_unknown_rates(seconds: float, text: str, clock: Callable[[float], None]) -> None:
    with progress("training", total=7300, unit="batches") as bar:
        bar.advance(10)
        clock(seconds)
        assert text in str(bar)


def test_hours_are_shown(clock: Callable[[float], None]) -> None:
    with progress("training", total=7210, unit="batches") as bar:
        clock(10)
        bar.advance(10)
        assert str(bar).endswith("2:00:00 left")


@pytest.mark.parametrize("forced", [False, True])
def test_nothing_is_written_without_a_terminal(
    forced: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("outer", total=2) as bar:
        assert not bar.drawn
        assert list(track(range(3), "inner")) == [0, 1, 2]
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_both_bars_and_is_clean_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("outer", total=2, unit="videos") as bar:
        assert bar.drawn
        for _ in track(range(3), "inner", unit="clips"):
            print("a note", file=sys.stderr)
        bar.advance()
    shown = terminal.getvalue()
    assert "outer" in shown
    assert "inner" in shown
    assert "/3 clips" in shown
    assert shown.count("a note\n") == 3
    assert screen(shown) == ["a note", "a note", "a note"]
