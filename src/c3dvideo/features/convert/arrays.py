"""NumPy files: one .npy a video with a JSON sidecar, and one or one a crop for five- and ten-crop features."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

from c3dvideo.choices import CropLayout
from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import (
    Write,
    appearing,
    choose_layer,
    clip_array,
    clip_matrix,
    has_views,
    save_npy,
    with_suffix,
)
from c3dvideo.features.store import VideoFeatures


@contextmanager
def npy_writer(out: Path, *, layer: str | None = None) -> Iterator[Write]:
    """A function that writes `<name>.npy`, float32 (T, D), and `<name>.json` with everything else that is known.

    T is the number of clips, 1 for pooled features.
    """

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
        save_npy(with_suffix(out, name, ".npy"), matrix)
        with appearing(with_suffix(out, name, ".json")) as temporary:
            temporary.write_text(json.dumps(sidecar, indent=1) + "\n")

    yield write


@contextmanager
def crops_writer(out: Path, *, layer: str | None = None, crop_layout: CropLayout = "xd-violence") -> Iterator[Write]:
    """A function that writes the crops of one video: 0 is the centre, 1 to 4 the corners, 5 to 9 their mirror images.

    "xd-violence": `<name>__<k>.npy`, float32 (T, D), a file a crop. "rtfm": `<name>.npy`, float32 (T, crops, D).
    """

    def write(name: str, features: VideoFeatures) -> None:
        array = clip_array(features, layer)
        if not has_views(array):
            raise StoreError(f"{features.name} has one crop a clip; extract with --crops five or --crops ten")
        crops = array.reshape(*array.shape[:2], -1)
        if crop_layout == "rtfm":
            save_npy(with_suffix(out, name, ".npy"), crops)
        else:
            for k in range(crops.shape[1]):
                save_npy(with_suffix(out, name, f"__{k}.npy"), crops[:, k])

    yield write
