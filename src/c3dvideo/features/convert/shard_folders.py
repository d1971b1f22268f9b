"""Folders of features as Parquet shards, and shards as folders of features: nothing is lost in either direction.

    convert("features/", to="shards", out="shards/")
    convert("shards/", to="npz", out="features_again/")        # equal to features/, to the byte

`c3dvideo.features.parquet_shards` states what a shard holds.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import Write
from c3dvideo.features.convert.outputs import OutputConflictError, Outputs
from c3dvideo.features.convert.shards_output import ShardsWriter
from c3dvideo.features.failures import append_failure, read_failures, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder
from c3dvideo.features.parquet_shards import LIST, MANIFEST, SUFFIX, read_shard, videos_in_shards
from c3dvideo.features.store import FORMAT, VideoFeatures, write_npz
from c3dvideo.files import atomic_file, path_inside, writing
from c3dvideo.reading import ForeignFile, read_json
from c3dvideo.storage import Location

_UNFINISHED = ".shards.tmp"


@contextmanager
def shards_writer(
    out: Path, *, layers: Sequence[str] = (), source: Location | None = None, overwrite: bool = False
) -> Iterator[Write]:
    """A function that appends one video to the shards in the folder `out`, which manifest.json lists in the end.

    layers: those to write, every stored one when empty. source: the folder of features, for its manifest and failures.
    Older shards are replaced when the new ones hold all of their videos, or with `overwrite`; until then they stay as
    they are. Raises OutputConflictError when they may not be, or when `out` is a folder of other features, and
    MissingExtraError without pyarrow.
    """
    manifest = out / MANIFEST
    older: list[tuple[str, Location]] = []
    with writing(manifest):
        if manifest.exists():
            found = videos_in_shards(out)
            if found is None:
                raise OutputConflictError(f"{out} holds features already: choose another `out=`")
            older = found
    settings: dict[str, Any] = {}
    unfinished = out / _UNFINISHED
    try:
        with ShardsWriter(unfinished) as shards:

            def write(name: str, features: VideoFeatures) -> None:
                path_inside(out, name)  # raises for a name that would leave the folder when its file is made again
                metadata = json.dumps({**features.metadata, "name": features.name}, sort_keys=True)
                chosen = {layer: features.layers[layer] for layer in layers or features.layers}
                shards.add(name, chosen, features.start_frame, features.start_seconds, metadata)
                if not settings:
                    settings.update(features.metadata.get("settings") or {})

            yield write
        about = (None if source is None else _manifest(source)) or {"format": FORMAT, "settings": settings}
        with atomic_file(unfinished / MANIFEST) as file:
            file.write(json.dumps({**about, LIST: shards.files}, indent=2, sort_keys=True).encode() + b"\n")
        if not overwrite:
            _check_nothing_is_lost(older, out, unfinished)
        _replace(out, unfinished, [each["file"] for each in shards.files])
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if source is not None:
        _copy_failures(source, out)


def _check_nothing_is_lost(older: Sequence[tuple[str, Location]], out: Path, newer: Path) -> None:
    for name, path in older:
        try:
            same = read_shard(newer / f"{name}.npz") == read_shard(path)
        except StoreError:
            same = False
        if not same:
            raise OutputConflictError(
                f"{out} holds something else than this conversion would write ({name}): choose another `out=`, delete "
                "it, or give `overwrite=` to replace it"
            )


def _replace(out: Path, newer: Path, shards: Sequence[str]) -> None:
    """Move new shards into the folder, then the manifest that lists them, then delete shards that it does not list."""
    with writing(out):
        for name in (*shards, MANIFEST):
            (newer / name).replace(out / name)
        for path in out.glob(f"clips-*{SUFFIX}"):
            if path.name not in shards:
                path.unlink()


@contextmanager
def npz_writer(
    out: Path, *, layers: Sequence[str] = (), source: Location | None = None, overwrite: bool = False
) -> Iterator[Write]:
    """A function that writes `<name>.npz`, as `extract` writes it; in the end, `out` is a folder of features.

    layers, source: as for `shards_writer`. Raises StoreError when `out` holds features of other settings.
    """
    about = None if source is None else _manifest(source)
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        chosen = {layer: features.layers[layer] for layer in layers or features.layers}
        with outputs.video(), outputs.file(name, ".npz") as file:
            write_npz(file, replace(features, layers=chosen))

    if about is not None and isinstance(about.get("settings"), dict):
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        claim_folder(out, Manifest(settings=about["settings"]), version=str(about.get("version", "")))
    yield write
    if source is not None:
        _copy_failures(source, out)


def _manifest(folder: Location) -> dict[str, Any] | None:
    """The manifest of a folder without its list of shards; None when it has none."""
    path = folder / MANIFEST
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise _manifest_file(path).unreadable(error) from error
    return {key: value for key, value in read_json(_manifest_file(path)).items() if key != LIST}


def _manifest_file(path: Location) -> ForeignFile:
    return ForeignFile(path, error=StoreError, expected="the manifest of a folder of features")


def _copy_failures(source: Location, out: Path) -> None:
    failures = read_failures(source)
    for failure in failures:
        append_failure(out, failure)
    if failures:
        settle_failures(out, solved=())
