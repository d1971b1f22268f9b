"""Write generated clips as video files, with a table of labels.

write_dataset("demo/videos", clips_per_class=8, seed=0)       # everyday classes, one folder each, and labels.csv
synthesize("clips", n_clips=100, seed=0)                      # research clips, one column per task
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

from c3dvideo.errors import UsageError
from c3dvideo.files import atomic_text, writing
from c3dvideo.progress import track
from c3dvideo.reading_tables import write_rows
from c3dvideo.synthetic.everyday import EVERYDAY, everyday_scene
from c3dvideo.synthetic.motions import check_n_frames
from c3dvideo.synthetic.people import PEOPLE_TASKS, draw_people, people_labels
from c3dvideo.synthetic.rendering import render
from c3dvideo.synthetic.scenes import TASKS, Scene, draw_scene, scene_labels
from c3dvideo.video.encode import write_video


def write_dataset(
    out: str | Path,
    *,
    classes: Sequence[str] = EVERYDAY,
    clips_per_class: int = 8,
    seed: int = 0,
    n_frames: int = 50,
    height: int = 120,
    width: int = 160,
    fps: int = 25,
) -> Path:
    """Write everyday videos as out/<class>/<class>_000.mp4 and return the path of out/labels.csv.

    The table has the columns path, label, split and group. The last quarter of every class, rounded up, is "test".
    Every video has its own group. height, width: multiples of 8. Raises UsageError for an unknown class, StoreError
    when a video cannot be written.
    """
    slugs = {name: name.replace(" ", "_") for name in classes}
    rows = [
        {
            "path": f"{slugs[name]}/{slugs[name]}_{number:03d}.mp4",
            "label": name,
            "split": "test" if number >= clips_per_class - -(-clips_per_class // 4) else "train",
            "group": f"{slugs[name]}_{number:03d}",
        }
        for name in classes
        for number in range(clips_per_class)
    ]
    draw = [
        lambda name=row["label"], number=int(row["group"][-3:]): everyday_scene(
            name, seed=seed, index=number, n_frames=n_frames, fps=fps
        )
        for row in rows
    ]
    _write_videos(Path(out), [row["path"] for row in rows], draw, height=height, width=width, fps=fps)
    return _write_table(Path(out), rows)


def synthesize(
    out: str | Path,
    *,
    n_clips: int,
    seed: int = 0,
    task: str | None = None,
    n_frames: int = 16,
    height: int = 128,
    width: int = 128,
    fps: int = 16,
) -> Path:
    """Write research clips, or clips of people, as out/000000.mp4, ... and return the path of out/labels.csv.

    The table has the columns path, seed, index and one per task, empty where a clip has no label for it. With `task`,
    only clips with a label for it are written, and the column `label` repeats it. A task in `PEOPLE_TASKS` selects
    clips of people, with the labels of all people tasks. Raises UsageError for an unknown task, StoreError when a video
    cannot be written.
    """
    people = task in PEOPLE_TASKS
    if task is not None and task not in TASKS and not people:
        raise UsageError(f"unknown task: {task}; there are {', '.join(TASKS | PEOPLE_TASKS)}")
    check_n_frames(n_frames)
    draw_one, labels_of = (draw_people, people_labels) if people else (draw_scene, scene_labels)
    scenes: list[tuple[int, Mapping[str, str]]] = []
    for index in count():
        if len(scenes) == n_clips:
            break
        labels = labels_of(seed=seed, index=index)
        if task is None or task in labels:
            scenes.append((index, labels))
    rows = [
        {"path": f"{number:06d}.mp4", **({"label": labels[task]} if task else {}), "seed": seed, "index": index}
        | {name: labels.get(name, "") for name in (PEOPLE_TASKS if people else TASKS)}
        for number, (index, labels) in enumerate(scenes)
    ]
    draw = [lambda index=index: draw_one(seed=seed, index=index, n_frames=n_frames) for index, _ in scenes]
    _write_videos(Path(out), [str(row["path"]) for row in rows], draw, height=height, width=width, fps=fps)
    return _write_table(Path(out), rows)


def _write_videos(
    out: Path, paths: Sequence[str], draw: Sequence[Callable[[], Scene]], *, height: int, width: int, fps: int
) -> None:
    """Render and encode the scenes, two at a time. Each video appears complete or not at all."""
    if height % 8 or width % 8:
        raise UsageError(f"frames are {height} x {width}; generated videos need multiples of 8")

    def write(path: str, scene: Callable[[], Scene]) -> None:
        target = out / path
        # FFmpeg chooses the container by the suffix, so the temporary file keeps it.
        temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
        clip = render([scene()], height=height, width=width)[0]
        try:
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_video(temporary, clip.permute(1, 2, 3, 0).numpy(), fps=fps)
                temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink()

    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in track(pool.map(write, paths, draw), "rendering", total=len(paths), unit="videos"):
            pass


def _write_table(out: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    rows = list(rows)
    path = out / "labels.csv"
    with atomic_text(path) as file:
        write_rows(file, [list(rows[0]) if rows else ["path"], *(list(row.values()) for row in rows)])
    return path
