"""Stored features as the files that other projects read: one writer per format, and `convert` for a whole folder.

    convert("features/", to="ucf-crime", out="Train/", layers=["fc6"])

    with hdf5_writer(Path("all.hdf5"), layer="fc6") as write:      # the same, one video at a time
        write("sub/a", read_features("features/sub/a.mp4.npz"))

A writer is a context manager that gives a function to call with each video; files with many videos appear when it ends.
A writer replaces an older file only by one that holds the same (or, with many videos, the same and more); otherwise it
raises OutputConflictError, unless `overwrite`. docs/formats.md describes every file to the byte and names who reads it.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from c3dvideo.choices import CropLayout, Format, Rounding
from c3dvideo.errors import C3DVideoError, StoreError, UsageError
from c3dvideo.extras import Extra, require_extra
from c3dvideo.features.convert.arrays import crops_writer, npy_writer
from c3dvideo.features.convert.blobs import caffe_writer
from c3dvideo.features.convert.common import Floats, Write, choose_stored_layer, clip_matrix, origin
from c3dvideo.features.convert.hdf5 import activitynet_writer, hdf5_writer
from c3dvideo.features.convert.outputs import OutputConflictError
from c3dvideo.features.convert.pca import PcaBasis, fit_pca
from c3dvideo.features.convert.segments import ucf_crime_writer
from c3dvideo.features.convert.shard_folders import npz_writer, shards_writer
from c3dvideo.features.convert.spans import tall_hdf5_writer, tall_writer
from c3dvideo.features.convert.tables import csv_writer, parquet_writer
from c3dvideo.features.store import list_features, read_features, read_layer_names
from c3dvideo.files import writing
from c3dvideo.progress import track
from c3dvideo.storage import Location, is_object, location

__all__ = [
    "ConvertSummary",
    "Format",
    "OutputConflictError",
    "PcaBasis",
    "activitynet_writer",
    "caffe_writer",
    "convert",
    "crops_writer",
    "csv_writer",
    "fit_pca",
    "hdf5_writer",
    "npy_writer",
    "npz_writer",
    "output_names",
    "parquet_writer",
    "shards_writer",
    "tall_hdf5_writer",
    "tall_writer",
    "ucf_crime_writer",
]


class _Way(NamedTuple):
    """How a format is written: by which writer, with which options of `convert`, and what `out` and `layers` may be."""

    writer: Callable[..., AbstractContextManager[Write]]
    options: tuple[str, ...]
    one_file: bool = False
    many_layers: bool = False
    extra: Extra | None = None


_WAYS = {
    "caffe": _Way(caffe_writer, ("keep_suffix",), many_layers=True),
    "npy": _Way(npy_writer, ("keep_suffix",)),
    "activitynet": _Way(activitynet_writer, ("pca", "pca_basis"), one_file=True, extra="hdf5"),
    "hdf5": _Way(hdf5_writer, ("keep_suffix",), one_file=True, extra="hdf5"),
    "ucf-crime": _Way(ucf_crime_writer, ("keep_suffix", "rounding")),
    "tall": _Way(tall_writer, ("merge", "span_frames", "context")),
    "tall --merge": _Way(tall_hdf5_writer, ("merge", "span_frames"), one_file=True, extra="hdf5"),
    "crops": _Way(crops_writer, ("keep_suffix", "crop_layout")),
    "csv": _Way(csv_writer, ("keep_suffix",)),
    "parquet": _Way(parquet_writer, (), one_file=True, many_layers=True, extra="parquet"),
    "shards": _Way(shards_writer, (), many_layers=True, extra="parquet"),
    "npz": _Way(npz_writer, (), many_layers=True),
}
# What the file system says about one name while others can still be written.
_ABOUT_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL)
_OUR_OPTIONS = ("keep_suffix", "merge", "pca", "pca_basis")
_FULL_NAMES = ("tall", "parquet", "shards", "npz")
_WITH_RECORDS = ("shards", "npz")  # which also take the manifest and the failures of the folder
_SUFFIX = re.compile(r"(?<=[^/])\.(?=\w*[a-z])\w{2,4}$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What a conversion did: how many videos and clips went to `out`, on which PCA basis, and why others did not."""

    format: str
    out: str
    n_videos: int
    n_clips: int
    pca_basis: str | None
    failures: Mapping[str, str]


def convert(
    features_folder: str | Location,
    *,
    to: Format,
    out: str | Path,
    layers: Sequence[str] = (),
    keep_suffix: bool = False,
    pca: int | None = None,
    pca_basis: str | Path | None = None,
    rounding: Rounding | None = None,
    crop_layout: CropLayout | None = None,
    span_frames: Sequence[int] | None = None,
    context: bool = False,
    merge: bool = False,
    overwrite: bool = False,
) -> ConvertSummary:
    """Write all features below a folder in another format; returns what was done.

    `out` is a file for activitynet, hdf5, parquet and merged tall, else a folder. `layers` names one layer, for caffe
    and parquet any number; it may be empty where there is no choice, and means all for those two. `pca` fits that many
    components and saves them as `<out>.pca.npz`; `pca_basis` uses saved ones. Options that are not given take the
    writer's default; one that the format has no use for raises UsageError, as do two videos that would get one name.
    A video that cannot be written in this format is named in `failures`, and the others are written; StoreError when
    none can be written, when `out` cannot, or when another conversion's file would be lost and `overwrite` is not set.

    >>> summary = convert("features", to="npy", out="features_npy")
    >>> summary.n_videos, summary.n_clips
    (40, 120)
    >>> import numpy as np
    >>> np.load("features_npy/waving_flag/waving_flag_000.npy").shape
    (3, 1024)
    """
    if is_object(out):
        raise UsageError("`out=` is an address; write the files to a disk and copy them from there")
    folder, out = location(features_folder), Path(out)
    options = {
        "keep_suffix": keep_suffix,
        "pca": pca,
        "pca_basis": pca_basis,
        "rounding": rounding,
        "crop_layout": crop_layout,
        "span_frames": span_frames,
        "context": context,
        "merge": merge,
    }
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    way = _way(to, set(given), layers)
    if way.extra is not None:
        require_extra(way.extra)
    _check_out(folder, out, one_file=way.one_file)
    found = list_features(folder)
    if not found:
        raise StoreError(f"{folder} holds no features; make some with `c3dvideo extract VIDEOS --out {folder}`")
    names = output_names([name for name, _ in found], to, keep_suffix=keep_suffix)
    _check_layers(layers, found, several=way.many_layers)
    arguments: dict[str, Any] = {"layers": layers} if way.many_layers else {"layer": layers[0] if layers else None}
    arguments |= {name: value for name, value in given.items() if name not in _OUR_OPTIONS}
    arguments["overwrite"] = overwrite
    if to in _WITH_RECORDS:
        arguments["source"] = folder
    with _own_files() as own:
        if pca is not None:
            pca_basis = own(Path(f"{out}.pca.npz"))
            _fit_basis([path for _, path in found], arguments["layer"], pca).save(Path(pca_basis), overwrite=overwrite)
        if pca_basis is not None:
            arguments["basis"] = PcaBasis.load(Path(pca_basis))
        n_clips, failures = _write_all(way.writer(out, **arguments), to, found, names)
    return ConvertSummary(
        format=to,
        out=str(out),
        n_videos=len(found) - len(failures),
        n_clips=n_clips,
        pca_basis=None if pca_basis is None else str(pca_basis),
        failures=failures,
    )


def output_names(names: Iterable[str], to: Format, *, keep_suffix: bool = False) -> dict[str, str]:
    """What each video is called in the format `to`, by its name in the feature folder.

    "sub/a.mp4" is "sub/a", with `keep_suffix` "sub/a.mp4"; always "sub/a.mp4" for tall, parquet, shards and npz, and
    "a" for activitynet (without a "v_" in front). A suffix is 2 to 4 letters and digits, not only digits, behind the
    last dot.
    Raises UsageError when two videos would have the same name, naming both.
    """
    videos: dict[str, str] = {}
    for name in names:
        short = name if keep_suffix or to in _FULL_NAMES else _SUFFIX.sub("", name)
        if to == "activitynet":
            short = PurePosixPath(short).name.removeprefix("v_")
        if short in videos:
            raise UsageError(
                f"{videos[short]} and {name} would both be written as {short!r}; "
                + ("rename one" if to == "activitynet" else "give `keep_suffix=`, or rename one")
            )
        videos[short] = name
    return {name: short for short, name in videos.items()}


def _way(to: Format, given: set[str], layers: Sequence[str]) -> _Way:
    """How to write `to`; raises UsageError for options and layers that it has no use for."""
    name = "tall --merge" if to == "tall" and "merge" in given else to
    way = _WAYS[name]
    for option in sorted(given - set(way.options)):
        raise UsageError(f"`{option}=` has no effect on {name}: leave it out")
    if {"pca", "pca_basis"} <= given:
        raise UsageError("`pca=` fits a basis and `pca_basis=` uses a saved one: give one of them")
    if len(layers) > 1 and not way.many_layers:
        raise UsageError(f"{name} holds one layer, got {', '.join(layers)}: give one `layer=`")
    return way


def _check_layers(layers: Sequence[str], found: Sequence[tuple[str, Location]], *, several: bool) -> None:
    """Raise UsageError when no video has the layers that were chosen; usually the first one settles it."""
    refusal: UsageError | None = None
    for name, path in found:
        with suppress(StoreError):  # reported when it is written
            stored = read_layer_names(path)
            try:
                for layer in layers:
                    choose_stored_layer(name, stored, layer)
                if not layers and not several:
                    choose_stored_layer(name, stored, None)
            except UsageError as error:
                refusal = refusal or error
            else:
                return
    if refusal is not None:
        raise refusal


@contextmanager
def _own_files() -> Iterator[Callable[[Path], Path]]:
    """A function that names a file as this conversion's own: it is deleted on failure, unless it was there before."""
    new: list[Path] = []

    def own(path: Path) -> Path:
        with writing(path):
            if not path.exists():
                new.append(path)
        return path

    try:
        yield own
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise


def _check_out(folder: Location, out: Path, *, one_file: bool) -> None:
    with writing(out):  # whose name may be one that no file can have
        if isinstance(folder, Path) and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            raise UsageError(f"`out=` {out} lies in the feature folder {folder}: choose another place")
        is_folder, exists = out.is_dir(), out.exists()
    if one_file and is_folder:
        raise UsageError(f"`out=` {out} is a folder, this format is one file: name the file")
    if not one_file and exists and not is_folder:
        raise UsageError(f"`out=` {out} is a file, this format is a folder of files: name the folder")


def _fit_basis(paths: Sequence[Location], layer: str | None, n_components: int) -> PcaBasis:
    """A basis fitted on every clip that can be written."""
    origins: set[str] = set()
    basis = fit_pca(_readable_clips(paths, layer, origins), n_components=n_components)
    return replace(basis, made_for=origins.pop() if len(origins) == 1 else "")


def _readable_clips(paths: Sequence[Location], layer: str | None, origins: set[str]) -> Iterator[Floats]:
    """The clips of each video that can be written, adding its origin; the others are reported when they are written."""
    for path in track(paths, "fitting PCA", unit="videos"):
        try:
            features = read_features(path)
            matrix = clip_matrix(features, layer)
        except (StoreError, UsageError):
            continue
        origins.add(origin(features, layer))
        yield matrix


def _write_all(
    writer: AbstractContextManager[Write], to: Format, found: Sequence[tuple[str, Location]], names: Mapping[str, str]
) -> tuple[int, dict[str, str]]:
    """Write every video that can be written; returns how many clips they have, and by name why the others were not."""
    n_clips = 0
    failures: dict[str, C3DVideoError] = {}
    with writer as write:
        for name, path in track(found, "converting", unit="videos"):
            try:
                features = read_features(path)
            except StoreError as error:
                failures[name] = error
                continue
            try:
                write(names[name], features)
            except (StoreError, UsageError) as error:
                if isinstance(error, OutputConflictError) or _concerns_every_video(error):
                    raise
                failures[name] = error
            else:
                n_clips += len(features.start_frame)
        if len(failures) == len(found):
            first = failures[found[0][0]]
            if isinstance(first, UsageError):
                raise first
            raise StoreError(f"none of {len(found)} videos could be written as {to}; the first: {first}")
    return n_clips, {name: str(error) for name, error in failures.items()}


def _concerns_every_video(error: C3DVideoError) -> bool:
    """Whether a video could not be written because nothing can: a full disk, and not a name that is too long."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in _ABOUT_ONE_NAME
