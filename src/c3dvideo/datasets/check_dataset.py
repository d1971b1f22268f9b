"""Decode every video of a data set; list the readable ones with their number of clips, and all problems.

summary = check_dataset(read_dataset("my_videos"), "report")
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import is_utf8, printable, write_table
from c3dvideo.datasets.measure_videos import Measured, MeasureSettings, measure_videos
from c3dvideo.features.decoding import Failed
from c3dvideo.video.clips import ClipPlan

GOOD, PROBLEMS = "good.csv", "problems.csv"
COLUMNS = ("path", "label", "problem")
EXAMPLE = ("path", "label", "split", "group", "start_seconds", "end_seconds", "start_frame")
MEASURED = ("n_frames", "fps", "width", "height", "n_clips")


@dataclass(frozen=True)
class CheckSummary:
    """Result of a check. `problems` has rows of path, label and problem. Short videos count as good and as problems.

    n_short: good videos that are shorter than one clip.
    """

    n_videos: int
    n_good: int
    n_frames: int
    n_clips: int
    problems: tuple[Mapping[str, str], ...]
    out: Path
    shortfalls: tuple[str, ...] = ()
    n_short: int = 0

    @property
    def all_readable(self) -> bool:
        """Whether every video of the data set is readable."""
        return self.n_good == self.n_videos


def check_dataset(dataset: Dataset, out: str | Path, *, plan: ClipPlan | None = None, workers: int = 4) -> CheckSummary:
    """Decode all videos and write `good.csv` and `problems.csv` to `out`; returns a summary.

    good.csv is a table that `read_dataset` reads (with `videos` set to the data set's root), with n_frames, fps, width,
    height and n_clips by `plan` (default: every 16 frames, the tail dropped). These describe the whole file, even when
    the example is a part of it.
    workers: processes that decode; 0 decodes in this process. An unreadable video is a problem and never stops the
        check, even if it crashes its process.
    Raises StoreError, before the first video is decoded, when `out` cannot be written.
    """
    plan, out = plan or ClipPlan(), Path(out)
    write_table(out / PROBLEMS, COLUMNS, [])
    paths = [dataset.source(example) for example in dataset.examples]
    found = dict(measure_videos(paths, MeasureSettings(), n_decoders=workers, description="checking"))
    good: list[dict[str, Any]] = []
    problems = [{"path": path, "label": "", "problem": "missing"} for path in dataset.missing]
    for example, path in zip(dataset.examples, paths, strict=True):
        measured = found[path]
        problem, n_clips = _problem(example, measured, plan)
        if problem:
            problems.append({"path": example.path, "label": example.label, "problem": problem})
        if isinstance(measured, Measured) and n_clips is not None:
            good.append({**_given(example), **_row(measured), "n_clips": n_clips})
    columns = [name for name in EXAMPLE if name in ("path", "label") or any(name in row for row in good)]
    write_table(out / GOOD, [*columns, *MEASURED], good)
    problems = [{name: printable(text) for name, text in row.items()} for row in problems]
    write_table(out / PROBLEMS, COLUMNS, problems)
    return CheckSummary(
        n_videos=len(dataset.examples) + len(dataset.missing),
        n_good=len(good),
        n_frames=sum(row["n_frames"] for row in good),
        n_clips=sum(row["n_clips"] for row in good),
        problems=tuple(problems),
        out=out,
        shortfalls=dataset.shortfalls,
        n_short=sum(not row["n_clips"] for row in good),
    )


def _problem(example: Example, measured: Measured | Failed, plan: ClipPlan) -> tuple[str, int | None]:
    """What is wrong with a video, "" for nothing; and its number of clips, None for a video that is not good."""
    if isinstance(measured, Failed):
        return measured.message, None
    if not is_utf8(example.path + example.label):
        return "its name is not UTF-8; rename it", None
    if measured.n_frames < plan.span_frames:
        return f"short: {measured.n_frames} frames, and one clip needs {plan.span_frames}", 0
    return "", len(plan.indices(measured.n_frames))


def _given(example: Example) -> dict[str, Any]:
    return {name: value for name, value in asdict(example).items() if name in EXAMPLE and value not in ("", None)}


def _row(measured: Measured) -> dict[str, Any]:
    fps = "" if measured.fps is None else f"{float(measured.fps):.3f}"
    return {"n_frames": measured.n_frames, "fps": fps, "width": measured.width, "height": measured.height}
