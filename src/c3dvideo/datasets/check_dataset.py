"""Decode every video of a data set; list the readable ones with their number of clips, and all problems.

summary = check_dataset(read_dataset("my_videos"), "report")
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.lists import is_utf8, printable, write_table
from c3dvideo.errors import C3DVideoError
from c3dvideo.parallel import in_parallel
from c3dvideo.video.clips import ClipPlan

GOOD, PROBLEMS = "good.csv", "problems.csv"
COLUMNS = ("path", "label", "problem")
EXAMPLE = ("path", "label", "split", "group", "start_seconds", "end_seconds", "start_frame")


@dataclass(frozen=True)
class CheckSummary:
    """Result of a check. `problems` has rows of path, label and problem. Short videos count as good and as problems."""

    n_videos: int
    n_good: int
    n_frames: int
    n_clips: int
    problems: tuple[Mapping[str, str], ...]
    out: Path
    shortfalls: tuple[str, ...] = ()

    @property
    def all_readable(self) -> bool:
        """Whether every video of the data set is readable."""
        return self.n_good == self.n_videos


def check_dataset(dataset: Dataset, out: str | Path, *, plan: ClipPlan | None = None, workers: int = 4) -> CheckSummary:
    """Decode all videos, `workers` at a time, and write `good.csv` and `problems.csv` to `out`; returns a summary.

    good.csv is a table that `read_dataset` reads (with `videos` set to the data set's root), with n_frames, fps, width,
    height and n_clips by `plan` (default: every 16 frames, the tail dropped). These describe the whole file, even when
    the example is a part of it. An unreadable video is a problem and never stops the check. Raises StoreError, before
    the first video is decoded, when `out` cannot be written.
    """
    plan, out = plan or ClipPlan(), Path(out)
    write_table(out / PROBLEMS, COLUMNS, [])
    sources = list(dict.fromkeys(dataset.source(example) for example in dataset.examples))
    found: dict[Path, dict[str, Any] | C3DVideoError] = {}
    for number, result in in_parallel(_measure, sources, workers=workers, description="checking"):
        found[sources[number]] = result
    good: list[dict[str, Any]] = []
    problems = [{"path": path, "label": "", "problem": "missing"} for path in dataset.missing]
    for example in dataset.examples:
        result = found[dataset.source(example)]
        row = {name: value for name, value in asdict(example).items() if name in EXAMPLE and value not in ("", None)}
        if isinstance(result, C3DVideoError) or not is_utf8(example.path + example.label):
            text = str(result) if isinstance(result, C3DVideoError) else "its name is not UTF-8; rename it"
            problems.append({"path": example.path, "label": example.label, "problem": text})
            continue
        n_frames = result["n_frames"]
        n_clips = 0 if n_frames < plan.span_frames else len(plan.indices(n_frames))
        if n_clips == 0:
            text = f"short: {n_frames} frames, and one clip needs {plan.span_frames}"
            problems.append({"path": example.path, "label": example.label, "problem": text})
        good.append({**row, **result, "n_clips": n_clips})
    measured = ["n_frames", "fps", "width", "height", "n_clips"]
    columns = [name for name in EXAMPLE if name in ("path", "label") or any(name in row for row in good)]
    write_table(out / GOOD, [*columns, *measured], good)
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
    )


def _measure(source: Path) -> dict[str, Any]:
    from c3dvideo.video.decode import open_video

    n_frames, height, width = 0, 0, 0
    with open_video(source) as video:
        for frame in video.frames():
            n_frames += 1
            height, width = frame.pixels.shape[:2]
        fps = "" if video.fps is None else f"{float(video.fps):.3f}"
    return {"n_frames": n_frames, "fps": fps, "width": width, "height": height}
