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
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.extras import require_extra
from c3dvideo.features.convert.pca import fit_pca
from c3dvideo.features.store import Failure
from c3dvideo.files import writing
from c3dvideo.probing.descriptors import Array
from c3dvideo.progress import progress
from c3dvideo.search.collection import Collection, different_settings
from c3dvideo.search.index import FORMAT, is_local
from c3dvideo.search.index_writer import IndexWriter, StoredVideo, VideoRows, new_generation, open_writer, publish
from c3dvideo.search.vector_space import VectorSpace, fit_space, random_pair_quantiles

SAMPLE_CLIPS = 10_000
"""From how many clips the statistics of a collection are estimated."""
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
    stored vector. failures: feature files that could not be read, which are not in the index.
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
    failures: tuple[Failure, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """What was done, in one line."""
        return (
            f"{self.db}: {self.n_videos} videos, {self.n_clips} clips; {self.n_added} added, {self.n_changed} changed, "
            f"{self.n_removed} removed, {self.n_unchanged} unchanged, {len(self.failures)} failed"
            + " (all rows were written again, with new statistics)"
            * self.rebuilt
        )


def build_index(
    features: str | Path,
    db: str | Path,
    *,
    labels: str | Path | None = None,
    layer: str | None = None,
    pca: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> IndexReport:
    """Make or update the index at `db` from a folder of features.

    db: a folder, or a URI such as s3://bucket/my.db with the access keys in the environment. labels: a CSV
        path,label[,start_seconds,end_seconds]. layer: None takes the index's, or else fc6 or the only one. pca: store
        so many principal components instead of all numbers; fixed when the index is made.
    Raises StoreError for a database that is none of c3dvideo or cannot be written, and for features of other settings
    than those in the index; UsageError for a folder without features or with other layers.
    """
    require_extra("search")
    started = time.monotonic()
    db = str(db)
    with _only_writer(db, note):
        opened = open_writer(db)
        if opened is None:
            _check_vacant(db)
            collection = Collection(features, layer=layer, labels=labels)
            opened = _create(collection, db, pca) or open_writer(db)
        else:
            collection = Collection(features, layer=layer or opened[1]["layer"], labels=labels)
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
    writer = new_generation(db, _fit(collection, pca), n_videos=len(collection.states))
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
            writer = new_generation(writer.db, _fit(collection, about["pca"]), n_videos=len(collection.states))
            wanted, stale = list(collection.states), True
        n_written = _write(collection, writer, wanted)
        if not (n_written or stale):
            return stored, writer  # what was wanted cannot be read
        writer.remove(gone)
        writer.sweep(superseded)
        writer.record(*_with_quantiles(writer))
        writer.tidy()
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


def _fit(collection: Collection, pca: int | None) -> VectorSpace:
    """The statistics of a sample of the collection."""
    features = collection.sample(SAMPLE_CLIPS)
    if pca is None:
        space = fit_space(features)
    else:
        basis = fit_pca([features], n_components=pca)
        vectors = (features - basis.mean) @ basis.components.T
        space = fit_space(vectors, basis_mean=basis.mean, basis=basis.components)
    return space


def _with_quantiles(writer: IndexWriter) -> tuple[VectorSpace, int]:
    """The statistics of an index with the scores of random pairs of what it holds now, and its number of clips."""
    directions, parts, n_clips = writer.sample(SAMPLE_CLIPS)
    videos = writer.video_directions()
    quantiles: dict[SearchKind, Array] = {
        "clips": random_pair_quantiles(directions, parts),
        "videos": random_pair_quantiles(videos, range(len(videos))),
    }
    return replace(writer.space, quantiles=quantiles), n_clips


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
