"""HDF5 files with every video in one: the ActivityNet challenge's layout, and one data set per video at the root."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c3dvideo.errors import UsageError
from c3dvideo.features.convert.common import Write, clip_matrix, origin
from c3dvideo.features.convert.hdf5_output import hdf5_file
from c3dvideo.features.convert.pca import PcaBasis
from c3dvideo.features.store import VideoFeatures


@contextmanager
def hdf5_writer(out: Path, *, layer: str | None = None, overwrite: bool = False) -> Iterator[Write]:
    """A function that adds one video to the HDF5 file `out` as the data set `<name>`, float32 (T, D), gzip."""
    with hdf5_file(out, overwrite=overwrite) as put:

        def write(name: str, features: VideoFeatures) -> None:
            put(name, clip_matrix(features, layer, allow_pooled=True))

        yield write


@contextmanager
def activitynet_writer(
    out: Path, *, layer: str | None = None, basis: PcaBasis | None = None, overwrite: bool = False
) -> Iterator[Write]:
    """A function that adds one video to the HDF5 file `out` as `v_<id>/c3d_features`, float32 (T, D), gzip.

    The name given is the id, with or without its `v_`. With `basis` the rows are projected on it: D = its components;
    UsageError when it was made for another layer or other weights.
    """
    with hdf5_file(out, overwrite=overwrite) as put:

        def write(name: str, features: VideoFeatures) -> None:
            matrix = clip_matrix(features, layer)
            if basis is not None:
                made_of = origin(features, layer)
                if basis.made_for not in ("", made_of):
                    raise UsageError(f"the PCA basis was made for {basis.made_for}; {features.name} holds {made_of}")
                matrix = basis.project(matrix)
            put(f"v_{name.removeprefix('v_')}/c3d_features", matrix)

        yield write
