"""NumPy files: one .npy per video with a JSON sidecar, or one .npy per crop for five- and ten-crop features."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

from c3dvideo.choices import CropLayout
from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import Write, choose_layer, clip_array, clip_matrix, has_views
from c3dvideo.features.convert.outputs import Outputs, write_npy
from c3dvideo.features.store import VideoFeatures
from c3dvideo.reading import ForeignFile, read_json


@contextmanager
def npy_writer(out: Path, *, layer: str | None = None, overwrite: bool = False) -> Iterator[Write]:
    """A function that writes `<name>.npy`, float32 (T, D), and `<name>.json` with what extract recorded.

    T is the number of clips, 1 for pooled features.
    """
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        matrix = clip_matrix(features, layer, allow_pooled=True)
        sidecar = {
            "name": features.name,
            "layer": choose_layer(features, layer),
            "shape": matrix.shape,
            "start_frame": features.start_frame.tolist(),
            "start_seconds": [seconds if isfinite(seconds) else None for seconds in features.start_seconds.tolist()],
            "metadata": features.metadata,
        }
        with outputs.video():
            with outputs.file(name, ".npy") as file:
                write_npy(file, matrix)
            with outputs.file(name, ".json", may_replace=_same_layer) as file:
                file.write(json.dumps(sidecar, indent=1).encode() + b"\n")

    yield write


def _same_layer(older: Path, newer: Path) -> bool:
    """Whether both are sidecars of one layer: the engine and the version that they record may differ."""
    try:
        there, here = (read_json(ForeignFile(path, error=StoreError, expected="a sidecar")) for path in (older, newer))
    except StoreError:
        return False
    return there.keys() == here.keys() and there["layer"] == here["layer"]


@contextmanager
def crops_writer(
    out: Path, *, layer: str | None = None, crop_layout: CropLayout = "xd-violence", overwrite: bool = False
) -> Iterator[Write]:
    """A function that writes the crops of one video: 0 is the centre, 1 to 4 the corners, 5 to 9 their mirror images.

    "xd-violence": `<name>__<k>.npy`, float32 (T, D), one file per crop. "rtfm": `<name>.npy`, float32 (T, crops, D).
    """
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        array = clip_array(features, layer)
        if not has_views(array):
            raise StoreError(f"{features.name} has one crop per clip; extract with `crops=five` or `crops=ten`")
        crops = array.reshape(*array.shape[:2], -1)
        files = {".npy": crops} if crop_layout == "rtfm" else {f"__{k}.npy": crops[:, k] for k in range(crops.shape[1])}
        with outputs.video():
            for suffix, array in files.items():
                with outputs.file(name, suffix) as file:
                    write_npy(file, array)

    yield write
