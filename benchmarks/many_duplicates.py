"""Duplicates among up to a million generated clips: time, memory, and how many of the planted copies are found.

    python -m benchmarks duplicates

Every hundredth video has a copy. Each kind of copy has its own distance from the original, so that the scores go from 1
down to near the threshold of 0.7; one kind lacks the first three clips. Up to 100,000 clips, comparing all pairs gives
the truth. Above that, the planted copies are what there is to find: no two other generated videos are alike.
"""

import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.index import GeneratedVideos, new_index, rows_of_video
from benchmarks.turns import Row
from c3dvideo.search import build_index as building
from c3dvideo.search.duplicates import EXACT_UP_TO, find_duplicates
from c3dvideo.search.index import Index

CLIPS_PER_VIDEO = 10
# How far the contents of a copy are changed, and how many of its first clips are cut off.
COPIES = {"same": (0.0, 0), "near": (0.6, 0), "far": (1.1, 0), "farthest": (1.4, 0), "cut": (0.8, 3)}
_EVERY = 100
_VIDEOS_AT_ONCE = 800
Pairs = set[tuple[str, str]]


def measure_duplicates(*, quick: bool) -> Iterator[Row]:
    """10,000 clips (quick), or 100,000 and a million."""
    for n_videos in (1_000,) if quick else (10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            db = str(Path(folder, "db"))
            yield from _measure(db, n_videos)
            shutil.rmtree(db)


def _measure(db: str, n_videos: int) -> Iterator[Row]:
    planted = _fill(db, n_videos)
    n_clips = Index.open(db).n_clips
    section = f"duplicates, {n_clips:,}"
    exact: Pairs | None = None
    for way, is_exact in (("all pairs", True), ("in cells", False)):
        if is_exact and n_clips > 1.1 * EXACT_UP_TO:
            continue
        found, seconds, processor, memory, mapped = _in_process(db, is_exact)
        yield Row(section=section, name=way, value=seconds, unit="s")
        yield Row(section=section, name=f"{way}, processor time", value=processor, unit="s")
        yield Row(section=section, name=f"{way}, memory", value=memory / 1e6, unit="GB")
        yield Row(section=section, name=f"{way}, memory with mapped files", value=mapped / 1e6, unit="GB")
        for kind, pairs in planted.items():
            share = len(pairs & found) / len(pairs)
            yield Row(section=section, name=f"{way}, found of {len(pairs)}, {kind}", value=share, unit="share")
        others = found - set().union(*planted.values())
        yield Row(section=section, name=f"{way}, pairs that are no copies", value=len(others), unit="pairs")
        if is_exact:
            exact = found
        elif exact is not None:
            yield Row(section=section, name="in cells", value=len(found & exact) / len(exact), unit="of all pairs")


def _fill(db: str, n_videos: int) -> dict[str, Pairs]:
    """Write an index of generated videos and copies; returns the pairs of each kind of copy."""
    generated = GeneratedVideos(clips_per_video=CLIPS_PER_VIDEO)
    writer = new_index(db, generated, n_videos)
    planted: dict[str, Pairs] = {kind: set() for kind in COPIES}
    kinds = list(COPIES)
    n_copies = 0
    for first in range(0, n_videos, _VIDEOS_AT_ONCE):
        contents = generated.contents(min(_VIDEOS_AT_ONCE, n_videos - first))
        features = generated.features(contents)
        rows = []
        for number, vectors in enumerate(features, start=first):
            name = f"{number:06d}.mp4"
            rows.append(rows_of_video(name, vectors))
            if number % _EVERY == 0:
                kind = kinds[n_copies % len(kinds)]
                changed, cut = COPIES[kind]
                copy = generated.features(contents[number - first, cut:], changed=changed) if changed else vectors
                rows.append(rows_of_video(f"copies/{name}", copy))
                planted[kind].add((name, f"copies/{name}"))
                n_copies += 1
        writer.add(rows)
    building.finish(writer)
    return planted


def _in_process(db: str, exact: bool) -> tuple[Pairs, float, float, float, float]:
    """Pairs, seconds, processor seconds, and the most KB of memory without and with mapped files, of a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_find, (db, exact))


def _find(db: str, exact: bool) -> tuple[Pairs, float, float, float, float]:
    most = {"RssAnon": 0.0, "VmRSS": 0.0}
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(most, ended))
    sampler.start()
    started, processor = time.perf_counter(), time.process_time()
    pairs = find_duplicates(Index.open(db), exact=exact)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    ended.set()
    sampler.join()
    return {(pair.a, pair.b) for pair in pairs}, seconds, processor, most["RssAnon"], most["VmRSS"]


def _sample(most: dict[str, float], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], float(value.split()[0]))
