"""An index of a million generated clips: time to make, time per query, recall@10, disk, and numpy beside it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.turns import Row
from c3dvideo.search import build_index as building
from c3dvideo.search.index import Index
from c3dvideo.search.index_rows import VideoRows
from c3dvideo.search.index_tables import FORMAT
from c3dvideo.search.index_writer import IndexWriter, new_generation, publish
from c3dvideo.search.query import search
from c3dvideo.search.vector_space import fit_space

WIDTH = 1024  # of the embedded network's fc6
CLIPS_PER_VIDEO = 20
_N_KINDS = 500
_LATENT = 96
_VIDEOS_AT_ONCE = 400
_N_QUERIES = 50


class GeneratedVideos:
    """Clips like features behind a ReLU: clips scatter around their video, videos around one of 500 kinds.

    All of them share one direction, so that raw cosines of unrelated clips are large, as they are of real features.
    """

    def __init__(self, seed: int = 0, *, clips_per_video: int = CLIPS_PER_VIDEO) -> None:
        self._random = np.random.default_rng(seed)
        self._clips_per_video = clips_per_video
        self._kinds = self._normal(_N_KINDS, _LATENT)
        self._mixing = self._normal(_LATENT, WIDTH) / np.sqrt(_LATENT)

    def __call__(self, n_videos: int) -> np.ndarray:
        """Features float32 (n_videos, clips, 1024)."""
        return self.features(self.contents(n_videos))

    def contents(self, n_videos: int) -> np.ndarray:
        """What the clips of random videos show, as float32 (n_videos, clips, 96)."""
        kinds = self._kinds[self._random.integers(0, _N_KINDS, n_videos)]
        videos = kinds + self._normal(n_videos, _LATENT)
        return videos[:, None] + 0.7 * self._normal(n_videos, self._clips_per_video, _LATENT)

    def features(self, contents: np.ndarray, *, changed: float = 0.0) -> np.ndarray:
        """Features (..., 1024) of clips, whose contents are first changed at random by `changed` per number."""
        contents = contents + changed * self._normal(*contents.shape)
        features = contents @ self._mixing + 0.2 * self._normal(*contents.shape[:-1], WIDTH) + 2
        return np.maximum(features, 0)

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape, dtype=np.float32)


def measure(*, quick: bool) -> Iterator[Row]:
    """A million clips (quick: 20,000) of 1,024 numbers, written by the product's own writer."""
    n_videos = 1_000 if quick else 50_000
    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder, "db"))
        yield from _measure(db, n_videos)
        shutil.rmtree(db)


def _measure(db: str, n_videos: int) -> Iterator[Row]:
    n_clips = n_videos * CLIPS_PER_VIDEO
    section = f"index of {n_clips:,}"
    generated = GeneratedVideos()
    started = perf_counter()
    writer = new_index(db, generated, n_videos)
    directions = np.empty((n_clips, writer.space.n_direction), np.float32)
    seconds = perf_counter() - started
    for first in range(0, n_videos, _VIDEOS_AT_ONCE):
        videos = generated(min(_VIDEOS_AT_ONCE, n_videos - first))
        rows = [rows_of_video(_name(first + number), features) for number, features in enumerate(videos)]
        block = np.concatenate([row.vectors for row in rows])
        directions[first * CLIPS_PER_VIDEO :][: len(block)] = writer.space.directions(block)
        started = perf_counter()
        writer.add(rows)
        seconds += perf_counter() - started
    yield Row(section=section, name="write", value=seconds, unit="s")
    started = perf_counter()
    building.finish(writer)
    yield Row(section=section, name="approximate index and statistics", value=perf_counter() - started, unit="s")
    stored = sum(path.stat().st_size for path in Path(db).rglob("*") if path.is_file())
    raw = 4 * WIDTH * n_clips
    yield Row(section=section, name="disk", value=stored / 1e9, unit="GB", against="the vectors", ratio=stored / raw)
    yield from _queries(section, Index.open(db), directions)


def _queries(section: str, index: Index, directions: np.ndarray) -> Iterator[Row]:
    """Searches for clips like indexed ones, a little changed; numpy compares the same directions in memory."""
    random = np.random.default_rng(1)
    chosen = directions[random.integers(0, len(directions), _N_QUERIES)]
    noise = random.standard_normal(chosen.shape, dtype=np.float32) * 0.02
    queries = (chosen + noise) / np.linalg.norm(chosen + noise, axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {"numpy, in memory": [], "LanceDB, every clip": [], "c3dvideo search": []}
    hits = 0
    for number, query in enumerate(queries):
        started = perf_counter()
        scores = directions @ query
        best = np.argpartition(-scores, 10)[:10]
        seconds["numpy, in memory"].append(perf_counter() - started)
        wanted = {_place(row) for row in best.tolist()}
        if number < 10:
            started = perf_counter()
            exact = index.search_direction(query, top=10, exact=True)
            seconds["LanceDB, every clip"].append(perf_counter() - started)
            assert {(found.video, round(found.start_seconds)) for found in exact} == wanted
        started = perf_counter()
        near = index.search_direction(query, top=10)
        seconds["c3dvideo search"].append(perf_counter() - started)
        hits += len(wanted & {(found.video, round(found.start_seconds)) for found in near})
    seconds["c3dvideo search, by name and time"] = []
    for query in random.integers(0, len(directions), _N_QUERIES).tolist():
        video, second = _place(query)
        started = perf_counter()
        search(index, f"{video}@{second}", top=10)
        seconds["c3dvideo search, by name and time"].append(perf_counter() - started)
    for name, times in seconds.items():
        value = 1000 * median(times)
        ratio = value / (1000 * median(seconds["numpy, in memory"]))
        yield Row(section=section, name=name, value=value, unit="ms", against="numpy, in memory", ratio=ratio)
    yield Row(section=section, name="recall@10", value=hits / (10 * len(queries)), unit="of numpy")


def _place(row: int) -> tuple[str, int]:
    return _name(row // CLIPS_PER_VIDEO), row % CLIPS_PER_VIDEO


def _name(number: int) -> str:
    return f"{number:06d}.mp4"


def rows_of_video(name: str, vectors: np.ndarray) -> VideoRows:
    """The rows of a video whose clips follow each other every second."""
    starts = np.arange(len(vectors), dtype=np.float64)
    return VideoRows(
        video=name,
        state="generated",
        content_sha256=None,
        start_seconds=starts,
        end_seconds=starts + 1,
        label=None,
        clip_labels=[None] * len(vectors),
        vectors=vectors,
    )


def new_index(db: str, generated: GeneratedVideos, n_videos: int) -> IndexWriter:
    """An index without rows, with the statistics of generated clips."""
    sample = generated(building.SAMPLE_CLIPS // CLIPS_PER_VIDEO).reshape(-1, WIDTH)
    writer = new_generation(db, fit_space(sample), n_videos=n_videos)
    settings: dict[str, object] = {"settings": {}, "fingerprint": "", "features": "", "pca": None}
    about = {"format": FORMAT, "layer": "fc6", "width": WIDTH, **settings}
    publish(writer, about)
    return writer
