"""How many copies `c3dvideo duplicates` finds, and how many pairs it reports that are none.

    python -m benchmarks.duplicates shared/data/ucf7 --work /tmp/duplicates

Copies of real videos are made in five ways with PyAV: encoded anew, scaled, cropped, cut at the start, and all of it at
once. They lie among the originals of all other videos. The threshold is chosen on one half of the source videos, as the
smallest that reports no false pair, and precision and recall are reported for the other half. UCF101 names tell the
source of a video (`_g08_`): several videos of one source show the same people and place, and some overlap. Pairs of one
source other than a copy and its original are therefore neither right nor wrong; how many are reported is stated.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.turns import Row
from c3dvideo.features.extract import extract
from c3dvideo.probing.labelled import source_by_name
from c3dvideo.search.build_index import build_index
from c3dvideo.search.duplicates import THRESHOLD, DuplicatePair, find_duplicates
from c3dvideo.search.index import Index
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.sources import find_sources

ORIGINAL = "originals"
THRESHOLDS = [round(0.5 + 0.01 * step, 2) for step in range(46)]
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


def measure(videos: Path, work: Path, stride_frames: int) -> Iterator[Row]:
    """Precision and recall on the test half, at the threshold that is best on the other half and at the default."""
    copied = write_copies(videos, work)
    originals = work / "originals"
    if not originals.exists():
        originals.symlink_to(videos.absolute())
    listed, features, db = work / "list.csv", work / f"feats{stride_frames}", work / f"{stride_frames}.db"
    listed.write_text(f"path\n{ORIGINAL}\ncopies\n")
    extract([listed], features, plan=ClipPlan(stride_frames=stride_frames))
    build_index(features, db)
    index = Index.open(db)
    test_half = {name: position % 2 == 1 for position, name in enumerate(sources(index))}
    found = find_duplicates(index, threshold=min(THRESHOLDS))
    # A collection has far more pairs of different videos than copies: what counts is that none of them is reported.
    chosen = next(
        threshold
        for threshold in THRESHOLDS
        if not outcome(index, found, copied, threshold, test_half, test=False)["false pairs"]
    )
    section = f"duplicates, stride {stride_frames}"
    yield Row(section=section, name="no false pair in the other half from", value=chosen, unit="score")
    for threshold in dict.fromkeys([chosen, THRESHOLD]):
        for name, value in outcome(index, found, copied, threshold, test_half, test=True).items():
            yield Row(section=section, name=f"{name}, threshold {threshold:g}", value=value, unit=unit_of(name))


def outcome(
    index: Index,
    found: list[DuplicatePair],
    copied: list[str],
    threshold: float,
    test_half: dict[str, bool],
    *,
    test: bool,
) -> dict[str, float]:
    """What is found and what is wrongly reported in one half of the sources."""
    mine = {name for name in copied if test_half[source_by_name(name)] == test}
    reported = [pair for pair in found if pair.score >= threshold]
    hits: dict[str, set[str]] = {kind: set() for kind in COPIES}
    n_wrong = n_same_source = 0
    for pair in reported:
        (kind_a, a), (kind_b, b) = split(pair.a), split(pair.b)
        if a == b:
            if kind_a == ORIGINAL and a in mine:
                hits[kind_b].add(a)
            elif kind_b == ORIGINAL and a in mine:
                hits[kind_a].add(a)
        elif kind_a == kind_b == ORIGINAL and test_half[source_by_name(a)] == test_half[source_by_name(b)] == test:
            same = source_by_name(a) == source_by_name(b)
            n_same_source, n_wrong = n_same_source + same, n_wrong + (not same)
    names = [split(video.video) for video in index.videos()]
    groups = Counter(source_by_name(name) for kind, name in names if kind == ORIGINAL)
    sizes = [count for source, count in groups.items() if test_half[source] == test]
    n_pairs = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
    n_hits = sum(map(len, hits.values()))
    return {
        **{f"recall, {kind}": len(some) / len(mine) for kind, some in hits.items()},
        "recall": n_hits / (len(mine) * len(COPIES)),
        "precision": n_hits / (n_hits + n_wrong) if n_hits + n_wrong else 1.0,
        "false pairs": n_wrong,
        "pairs of different sources": n_pairs,
        "reported pairs of one source": n_same_source,
    }


def unit_of(name: str) -> str:
    return "share" if name.startswith(("recall", "precision")) else "pairs"


def split(name: str) -> tuple[str, str]:
    """The kind of copy and the name of the original, of a name in the index."""
    first, rest = name.split("/", 1)
    return (ORIGINAL, rest) if first == ORIGINAL else tuple(rest.split("/", 1))  # type: ignore[return-value]


def sources(index: Index) -> list[str]:
    """The source videos, sorted."""
    return sorted({source_by_name(split(video.video)[1]) for video in index.videos()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of real videos with names as in UCF101")
    parser.add_argument("--work", type=Path, required=True, help="folder for copies, features and indexes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "duplicates.csv")
    arguments = parser.parse_args()
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for stride_frames in (16, 4):
            for row in measure(arguments.videos, arguments.work, stride_frames):
                print(f"{row.section:24} {row.name:58} {row.value:10.4g} {row.unit}", flush=True)
                writer.writerow({key: "" if value is None else value for key, value in asdict(row).items()})


if __name__ == "__main__":
    main()
