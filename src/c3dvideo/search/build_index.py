"""Put a folder of features into an index, or bring an index up to date with it.

    report = build_index("features/", "my.db")
    print(report)                     # what was added, changed and removed

An index mirrors one folder. A second run reads the table of contents of every feature file and writes only what is new
or has changed; rows of files that are gone are deleted. A run that was killed is completed by the next one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from c3dvideo import __version__
from c3dvideo.choices import SearchKind
from c3dvideo.counts import count
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.extras import require_extra
from c3dvideo.features.convert.pca import fit_pca
from c3dvideo.features.failures import Failure
from c3dvideo.files import writing
from c3dvideo.probing.descriptors import Array
from c3dvideo.progress import progress
from c3dvideo.search.collection import Collection, different_settings
from c3dvideo.search.index_rows import VideoRows
from c3dvideo.search.index_tables import FORMAT, is_local
from c3dvideo.search.index_writer import IndexWriter, StoredVideo, new_generation, open_writer, publish
from c3dvideo.search.recall import approximate_recall, pca_recall
from c3dvideo.search.vector_space import fit_space, random_pair_quantiles

SAMPLE_CLIPS = 10_000
"""From how many clips the statistics of a collection are estimated."""
APPROXIMATE_FROM = 100_000
"""From how many clips an approximate index pays: comparing so many takes 30 ms or more, and the index 4 s to make."""
_ROWS_AT_ONCE = 8_192
_BYTES_AT_ONCE = 64 << 20
_LOCK = ".writer.lock"
# Two writers in object storage repair what they have done to each other; more than two passes were never needed.
_MOST_PASSES = 10


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What one run did to an index.

    n_videos, n_clips: in the index now. n_added, n_changed, n_removed, n_unchanged: videos. rebuilt: whether all rows
    were written again, because the collection had doubled since its statistics were estimated. dimensions: numbers per
    stored vector. pca_recall: with a PCA, the share of the ten nearest clips by all numbers that are among the ten
    nearest by the components. approximate_recall: with an approximate index, the share of the ten nearest clips that it
    finds; None where every clip is compared. failures: feature files that cannot be read, which are not in the index.
    """

    db: str
    n_videos: int
    n_clips: int
    n_added: int
    n_changed: int
    n_removed: int
    n_unchanged: int
    rebuilt: bool
    dimensions: int
    pca_recall: float | None
    approximate_recall: float | None
    failures: tuple[Failure, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """What was done, a line each for what it costs to store or to compare less."""
        lines = [
            f"{self.db}: {count(self.n_videos, 'video')}, {count(self.n_clips, 'clip')}; {self.n_added} added, "
            f"{self.n_changed} changed, {self.n_removed} removed, {self.n_unchanged} unchanged, "
            f"{len(self.failures)} failed" + " (all rows were written again, with new statistics)" * self.rebuilt
        ]
        if self.pca_recall is not None:
            lines.append(f"{self.dimensions} principal components: recall@10 {self.pca_recall:.3f} of all numbers")
        if self.approximate_recall is not None:
            lines.append(f"approximate index: recall@10 {self.approximate_recall:.3f} of comparing every clip")
        return "\n".join(lines)


def build_index(
    features: str | Path,
    db: str | Path,
    *,
    labels: str | Path | None = None,
    labels_from_folders: bool = False,
    layer: str | None = None,
    pca: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> IndexReport:
    """Make or update the index at `db` from a folder of features.

    db: a folder, or a URI such as s3://bucket/my.db with the access keys in the environment. labels: a CSV
        path,label[,start_seconds,end_seconds]. labels_from_folders: take the folder of each video as its label instead.
        layer: None takes the index's, or else fc6 or the only one. pca: store so many principal components instead of
        all numbers; fixed when the index is made.
    Raises StoreError for a database that is none of c3dvideo or cannot be written, and for features of other settings
    than those in the index; UsageError for a folder without features or with other layers.
    """
    require_extra("search")
    if labels is not None and labels_from_folders:
        raise UsageError("choose one of `labels=` and `labels_from_folders=`")
    started = time.monotonic()
    db = str(db)
    with _only_writer(db, note):
        opened = open_writer(db)
        if opened is None:
            _check_vacant(db)
        stored_layer = None if opened is None else opened[1]["layer"]
        collection = Collection(
            features, layer=layer or stored_layer, labels=labels, labels_from_folders=labels_from_folders
        )
        opened = opened or _create(collection, db, pca) or open_writer(db)
        assert opened is not None
        writer, about = opened
        _check_about(collection, db, about, pca)
        before, _ = writer.stored()
        after, updated = _update(collection, writer, about)
        if updated.sweep():
            note("deleted clips that a stopped run had left behind")
        updated.drop_other_generations()
    same = {name for name in after.keys() & before.keys() if after[name].state == before[name].state}
    return IndexReport(
        db=db,
        n_videos=len(after),
        n_clips=sum(video.n_clips for video in after.values()),
        n_added=len(after.keys() - before.keys()),
        n_changed=len(after.keys() & before.keys()) - len(same),
        n_removed=len(before.keys() - after.keys()),
        n_unchanged=len(same),
        rebuilt=updated is not writer,
        dimensions=updated.space.dimensions,
        pca_recall=updated.generation.get("pca_recall"),
        approximate_recall=updated.generation.get("approximate_recall"),
        failures=tuple(collection.failures[name] for name in sorted(collection.failures)),
        seconds=time.monotonic() - started,
    )


def _create(collection: Collection, db: str, pca: int | None) -> tuple[IndexWriter, dict[str, Any]] | None:
    """A new index without rows; None when another writer has just made one."""
    about = {
        "format": FORMAT,
        "version": __version__,
        "layer": collection.layer,
        "width": collection.width,
        "settings": collection.settings,
        "fingerprint": collection.fingerprint,
        "features": str(collection.folder.absolute()),
        "pca": pca,
    }
    writer = _generation(collection, db, pca)
    return (writer, about) if publish(writer, about) else None


def _update(
    collection: Collection, writer: IndexWriter, about: Mapping[str, Any]
) -> tuple[dict[str, StoredVideo], IndexWriter]:
    """Write until nothing is left to do; returns all videos in the index, and the writer of their tables."""
    for _ in range(_MOST_PASSES):
        stored, superseded = writer.stored()
        gone = sorted(stored.keys() - collection.states.keys())
        states = collection.states.items()
        wanted = [name for name, state in states if name not in stored or stored[name].state != state]
        n_clips = sum(video.n_clips for video in stored.values())
        stale = bool(gone or superseded) or writer.generation.get("n_clips") != n_clips
        if not (wanted or stale):
            return stored, writer
        _check_removal(collection, about, gone, stored)
        if stored and len(collection.states) >= 2 * writer.generation["n_videos"]:
            # Statistics of half a collection may be wrong for the whole. Doubling keeps the cost of this bounded.
            writer = _generation(collection, writer.db, about["pca"])
            wanted, stale = list(collection.states), True
        n_written = _write(collection, writer, wanted)
        if not (n_written or stale):
            return stored, writer  # what was wanted cannot be read
        writer.remove(gone)
        writer.sweep(superseded)
        finish(writer)
    raise StoreError(f"{writer.db} is being changed by others all the time; run this again when they have ended")


def _write(collection: Collection, writer: IndexWriter, names: Sequence[str]) -> int:
    """Write videos in batches of bounded size, each visible as soon as it is complete; returns how many."""
    batch: list[VideoRows] = []
    n_written = n_rows = n_bytes = 0
    with progress("indexing", total=len(names), unit="videos") as bar:
        for rows in collection.rows(names, writer.space):
            batch.append(rows)
            n_written += 1
            n_rows, n_bytes = n_rows + len(rows.vectors), n_bytes + rows.vectors.nbytes
            if n_rows >= _ROWS_AT_ONCE or n_bytes >= _BYTES_AT_ONCE:
                writer.add(batch)
                bar.advance(len(batch))
                batch, n_rows, n_bytes = [], 0, 0
        if batch:
            writer.add(batch)
            bar.advance(len(batch))
    return n_written


def _generation(collection: Collection, db: str, pca: int | None) -> IndexWriter:
    """Empty tables with the statistics of a sample of the collection."""
    features = collection.sample(SAMPLE_CLIPS)
    n_videos, full = len(collection.states), fit_space(features)
    if pca is None:
        return new_generation(db, full, n_videos=n_videos)
    basis = fit_pca([features], n_components=pca)
    vectors = (features - basis.mean) @ basis.components.T
    space = fit_space(vectors, basis_mean=basis.mean, basis=basis.components)
    return new_generation(db, space, n_videos=n_videos, pca_recall=pca_recall(features, space, full))


def finish(writer: IndexWriter) -> None:
    """What depends on all clips: an approximate index where it pays, and the scores of random pairs."""
    writer.tidy()
    # Not the number of rows: those of a stopped writer in object storage stay for a while.
    n_clips = sum(video.n_clips for video in writer.stored()[0].values())
    directions, parts = writer.sample(SAMPLE_CLIPS)
    found: dict[str, Any] = {"n_clips": n_clips}
    if n_clips >= APPROXIMATE_FROM:
        if "approximate_recall" not in writer.generation:
            writer.make_approximate()
        found["approximate_recall"] = approximate_recall(writer)
    videos = writer.video_directions()
    quantiles: dict[SearchKind, Array] = {
        "clips": random_pair_quantiles(directions, parts),
        "videos": random_pair_quantiles(videos, range(len(videos))),
    }
    writer.record(replace(writer.space, quantiles=quantiles), **found)


def _check_about(collection: Collection, db: str, about: Mapping[str, Any], pca: int | None) -> None:
    """Raise StoreError when these features do not belong in this index."""
    if collection.layer != about["layer"]:
        raise StoreError(
            f"{db} holds {about['layer']}, and {collection.layer} was chosen: an index holds one layer; choose another "
            "`db=`"
        )
    if pca is not None and pca != about["pca"]:
        stored = "all numbers" if about["pca"] is None else f"{about['pca']} principal components"
        raise StoreError(f"{db} holds {stored} per clip, which cannot be changed; choose another `db=` for `pca={pca}`")
    differences = different_settings(about["settings"], collection.settings)
    if differences or collection.width != about["width"]:
        found = "; ".join(differences) or f"{about['width']} numbers per clip there and {collection.width} here"
        raise StoreError(
            f"{db} is an index of features of other settings: {found}. An index never mixes two: choose another `db=`"
        )


def _check_removal(
    collection: Collection, about: Mapping[str, Any], gone: Sequence[str], stored: Mapping[str, StoredVideo]
) -> None:
    """Raise UsageError when videos would be removed because this is another folder than that of the index."""
    folder = about["features"]
    if gone and folder != str(collection.folder.absolute()) and Path(folder).is_dir():
        raise UsageError(
            f"this index mirrors {folder}, and {len(gone)} of its {len(stored)} videos are not in {collection.folder}; "
            "choose another `db=` for another folder"
        )


def _check_vacant(db: str) -> None:
    """Raise UsageError for a folder that holds something else than an index."""
    if is_local(db) and Path(db).exists():
        others = [path for path in Path(db).iterdir() if not (path.name == _LOCK or path.suffix == ".lance")]
        if others:
            raise UsageError(f"{db} is not empty and is no index; it has {others[0].name}: choose another `db=`")


@contextmanager
def _only_writer(db: str, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to write to a local database; writers in object storage take care of each other without it."""
    if not is_local(db):
        yield
        return
    path = Path(db, _LOCK)
    with writing(db):
        _check_vacant(db)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"waiting for another run that writes to {db}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
