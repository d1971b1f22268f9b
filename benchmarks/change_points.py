"""How well `c3dvideo segment` finds where one clip ends and the next begins: python -m benchmarks.change_points VIDEOS

Joins videos of a labelled folder, named as UCF101's, into longer ones whose boundaries are known: hard cuts, and
dissolves of eight frames. Neighbours come from different source videos. Generated parts that differ in motion only, and
in where their objects begin, are joined too. Every method has one threshold. It is chosen
on the sequences of one half of the sources and reported on those of the other half. Prints a Markdown table: F1,
precision and recall of boundaries at a tolerance of one clip (16 frames), pooled over the sequences.

Baselines: the same search for change points over colour histograms of the same clips, and the usual cut detector, which
reports a boundary where the histograms of two neighbouring frames differ by more than a threshold.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.probing.change_points import STRIDE_FRAMES, change_points
from c3dvideo.probing.change_points import THRESHOLDS as CHOSEN
from c3dvideo.probing.colour_histograms import histogram
from c3dvideo.probing.descriptors import clip_vectors
from c3dvideo.probing.labelled import source_by_name
from c3dvideo.synthetic import Scene, draw_scene, render
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video

TOLERANCE = 16
OTHER_MOTION = "other motion, same appearance (generated)"
SEGMENTS, SHORTEST, DISSOLVE = 8, 24, 8
THRESHOLDS = [round(0.05 * step, 2) for step in range(2, 31)]
CUT_THRESHOLDS = [round(float(x), 3) for x in np.linspace(0.02, 0.9, 45)]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Joined:
    """One joined video, as what each method needs of it, and the frames at which its parts begin."""

    boundaries: list[int]
    n_frames: int
    descriptors: Array
    clip_histograms: Array
    frame_distances: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos with one folder per class")
    parser.add_argument("--weights", help="weights folder or name; default: the embedded weights")
    parser.add_argument("--layer", default="fc6")
    parser.add_argument("--sequences", type=int, default=24, help="per half and kind of transition")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    extractor = Extractor(
        arguments.weights, layers=[arguments.layer], plan=ClipPlan(stride_frames=STRIDE_FRAMES), workers=0
    )
    print("| transitions | method | threshold | F1 | precision | recall |\n|---|---|---|---|---|---|")
    kinds = {"hard cuts": (0, 5), f"dissolves of {DISSOLVE} frames": (DISSOLVE, 5), OTHER_MOTION: (0, 25)}
    for name, (dissolve, fps) in kinds.items():
        halves = []
        for half in (0, 1):
            if name == OTHER_MOTION:
                drawn = draw_motions(half, n=arguments.sequences // 2)
            else:
                drawn = draw(arguments.videos, half, n=arguments.sequences, seed=arguments.seed)
            halves.append([read_sequence(extractor, parts, dissolve, fps) for parts in drawn])
        for method, (detect, thresholds) in METHODS.items():
            best = max(thresholds, key=lambda threshold: f1(halves[0], detect, threshold)[0])
            figures = " | ".join(f"{value:.3f}" for value in f1(halves[1], detect, best))
            print(f"| {name} | {method} | {best:g} | {figures} |", flush=True)
            if method in DEFAULTS:
                figures = " | ".join(f"{value:.3f}" for value in f1(halves[1], detect, DEFAULTS[method]))
                print(f"| {name} | {method}, default threshold | {DEFAULTS[method]:g} | {figures} |", flush=True)
        takes = list(single_takes(halves[1])) if name == "hard cuts" else []
        if takes:
            n_found = sum(len(change_points(rows, STRIDE_FRAMES * np.arange(len(rows)))) for rows in takes)
            n_frames = sum(STRIDE_FRAMES * (len(rows) - 1) + TOLERANCE for rows in takes)
            print(
                f"{len(takes)} single takes: {100 * n_found / n_frames:.2f} boundaries per 100 frames", file=sys.stderr
            )
    print(
        f"{2 * arguments.sequences} sequences per kind of transition, half of them for the choice of thresholds; "
        f"{SEGMENTS - 1} boundaries each; {extractor}",
        file=sys.stderr,
    )


def draw(folder: Path, half: int, *, n: int, seed: int) -> Iterator[list[Array]]:
    """`n` lists of SEGMENTS videos, as frames, of one half of the sources; neighbours are of different sources."""
    paths = sorted(folder.rglob("*.mp4"))
    sources = sorted({source_by_name(path.as_posix()) for path in paths})
    random.Random(seed).shuffle(sources)
    chosen = set(sources[half::2])
    paths = [path for path in paths if source_by_name(path.as_posix()) in chosen]
    order = random.Random(f"{seed} {half}")
    for _ in range(n):
        parts: list[Array] = []
        last = ""
        while len(parts) < SEGMENTS:
            path = order.choice(paths)
            frames = read_frames(path)
            if len(frames) >= SHORTEST and source_by_name(path.as_posix()) != last:
                parts.append(frames[: 4 * SHORTEST])
                last = source_by_name(path.as_posix())
        yield parts


def draw_motions(half: int, *, n: int) -> Iterator[list[Array]]:
    """`n` lists of SEGMENTS generated parts of 24 to 64 frames: one backdrop and the same objects, other motions."""
    scenes: dict[int, list[Scene]] = {1: [], 2: [], 3: []}  # by the number of objects
    index = half
    while min(map(len, scenes.values())) < 60:
        scene = draw_scene(seed=77, index=index, n_frames=64)
        scenes[len(scene.movement.objects)].append(scene)
        index += 2
    order = np.random.default_rng(half)
    for number in range(n):
        alike = scenes[1 + number % 3]
        look = alike[order.integers(len(alike))]
        parts = []
        for chosen in order.permutation(len(alike))[:SEGMENTS]:
            scene = replace(look, movement=alike[chosen].movement)
            pixels = render([scene], height=112, width=144).numpy()[0].transpose(1, 2, 3, 0)
            parts.append(pixels[: int(order.integers(SHORTEST, 65))])
        yield parts


def read_frames(path: Path) -> Array:
    """All frames of a video, uint8 (T, 240, 320, 3)."""
    with open_video(path, channel_order="rgb") as video:
        return np.stack([frame.pixels.copy() for frame in video.frames()])


def join(parts: Sequence[Array], dissolve: int) -> tuple[Array, list[int]]:
    """The parts as one video, and the frame at which each part but the first begins (the middle of a dissolve)."""
    joined, boundaries = parts[0], []
    for part in parts[1:]:
        boundaries.append(len(joined) - dissolve // 2)
        if dissolve:
            share = (np.arange(dissolve, dtype=np.float32) + 0.5)[:, None, None, None] / dissolve
            mixed = (1 - share) * joined[-dissolve:] + share * part[:dissolve]
            joined = np.concatenate([joined[:-dissolve], mixed.round().astype(np.uint8), part[dissolve:]])
        else:
            joined = np.concatenate([joined, part])
    return joined, boundaries


def read_sequence(extractor: Extractor, parts: Sequence[Array], dissolve: int, fps: int) -> Joined:
    frames, boundaries = join(parts, dissolve)
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder, "joined.mp4"), frames, fps=fps)
        (video,) = extractor(Path(folder, "joined.mp4"))
    if isinstance(video, Failure):
        raise SystemExit(f"{video.name}: {video.message}")
    histograms = np.stack([histogram(frame) for frame in frames])
    starts = video.start_frame.tolist()
    (descriptors,) = video.layers.values()
    return Joined(
        boundaries=boundaries,
        n_frames=len(frames),
        descriptors=clip_vectors(descriptors),
        clip_histograms=np.sqrt(np.stack([histograms[start : start + TOLERANCE].mean(axis=0) for start in starts])),
        frame_distances=np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2,
    )


def single_takes(sequences: Sequence[Joined]) -> Iterator[Array]:
    """The descriptors of every part that is long enough to be divided, without clips across a boundary."""
    for sequence in sequences:
        for start, end in pairwise([0, *sequence.boundaries, sequence.n_frames]):
            first = -(-start // STRIDE_FRAMES)
            rows = sequence.descriptors[first : max(first, (end - TOLERANCE) // STRIDE_FRAMES + 1)]
            if len(rows) >= 12:
                yield rows


def by_descriptors(sequence: Joined, threshold: float) -> list[int]:
    return [frame for frame, _ in change_points(sequence.descriptors, starts(sequence), threshold=threshold)]


def by_histograms(sequence: Joined, threshold: float) -> list[int]:
    return [frame for frame, _ in change_points(sequence.clip_histograms, starts(sequence), threshold=threshold)]


def by_both(sequence: Joined, threshold: float) -> list[int]:
    found = change_points(sequence.descriptors, starts(sequence), colours=sequence.clip_histograms, threshold=threshold)
    return [frame for frame, _ in found]


def by_cuts(sequence: Joined, threshold: float) -> list[int]:
    return [int(index) + 1 for index in np.flatnonzero(sequence.frame_distances > threshold)]


DEFAULTS: Mapping[str, float] = {
    "C3D descriptors": CHOSEN["descriptors"],
    "colour histograms of clips, same search": CHOSEN["colours"],
    "both": CHOSEN["both"],
}
METHODS: Mapping[str, tuple[Callable[[Joined, float], list[int]], list[float]]] = {
    "C3D descriptors": (by_descriptors, THRESHOLDS),
    "colour histograms of clips, same search": (by_histograms, THRESHOLDS),
    "both": (by_both, THRESHOLDS),
    "colour histograms of neighbouring frames": (by_cuts, CUT_THRESHOLDS),
}


def starts(sequence: Joined) -> Array:
    return STRIDE_FRAMES * np.arange(len(sequence.descriptors))


def f1(
    sequences: Sequence[Joined], detect: Callable[[Joined, float], list[int]], threshold: float
) -> tuple[float, float, float]:
    """F1, precision and recall; a boundary and a detection match once each, at most TOLERANCE frames apart."""
    n_right = n_found = n_true = 0
    for sequence in sequences:
        found = detect(sequence, threshold)
        n_right += matches(sequence.boundaries, found)
        n_found += len(found)
        n_true += len(sequence.boundaries)
    precision, recall = n_right / max(n_found, 1), n_right / n_true
    return 2 * n_right / max(n_found + n_true, 1), precision, recall


def matches(boundaries: Sequence[int], found: Sequence[int]) -> int:
    """The most pairs of a boundary and a detection within TOLERANCE; both in order, so the earliest fit is best."""
    n = index = 0
    for boundary in boundaries:
        while index < len(found) and found[index] < boundary - TOLERANCE:
            index += 1
        if index < len(found) and found[index] <= boundary + TOLERANCE:
            n += 1
            index += 1
    return n


if __name__ == "__main__":
    main()
