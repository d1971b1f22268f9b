"""How many copies `c3dvideo duplicates` finds, and how many pairs it reports that are none.

    python -m benchmarks.duplicates shared/data/ucf7 --work /tmp/duplicates

Copies of real videos are made in five ways with PyAV: encoded anew, scaled, cropped, cut at the start, and all of it at
once. They lie among the originals of all other videos. The threshold is chosen on one half of the source videos, and
precision and recall are reported for the other half. UCF101 names tell the source of a video (`_g08_`): several videos
of one source show the same people and place, and some overlap. Pairs of one source other than a copy and its original
are therefore neither right nor wrong; how many of them are reported is stated.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.sources import find_sources

N_COPIED = 60
_SHORTEST = 32  # frames: two clips, so that a cut copy has one left
_CUT_FRAMES = 5  # one second, and no multiple of a stride: no clip of a copy equals one of its original


def scaled(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def cropped(frame: np.ndarray, share: float) -> np.ndarray:
    height, width = frame.shape[:2]
    top, left = int(height * share) // 2 * 2, int(width * share) // 2 * 2
    return frame[top : height - top, left : width - left]


COPIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, dict[str, object]]] = {
    "re-encoded": (lambda frame: frame, 0, {"codec": "libx264", "crf": 38}),
    "rescaled": (lambda frame: scaled(frame, 160, 128), 0, {"codec": "mpeg4", "codec_options": {"b": "300k"}}),
    "cropped": (lambda frame: cropped(frame, 0.08), 0, {"crf": 26}),
    "shifted": (lambda frame: frame, _CUT_FRAMES, {"crf": 26}),
    "all at once": (lambda frame: cropped(scaled(frame, 240, 180), 0.05), _CUT_FRAMES, {"crf": 34}),
}


def frames_of(path: Path) -> list[np.ndarray]:
    with open_video(path, channel_order="rgb") as video:
        return [frame.pixels for frame in video.frames()]


def write_copies(videos: Path, folder: Path) -> list[str]:
    """Write copies/<kind>/<name> of 60 videos below `folder`; returns the names of these videos."""
    originals = sorted(Path(source.path) for source in find_sources([videos]))
    long = [path for path in originals if len(frames_of(path)) >= _SHORTEST]
    chosen = long[:: max(1, len(long) // N_COPIED)][:N_COPIED]
    for path in chosen:
        frames = frames_of(path)
        for kind, (change, cut, options) in COPIES.items():
            copy = folder / "copies" / kind / path.relative_to(videos)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_video(copy, map(change, frames[cut:]), fps=5, **options)  # type: ignore[arg-type]
    return [path.relative_to(videos).as_posix() for path in chosen]
