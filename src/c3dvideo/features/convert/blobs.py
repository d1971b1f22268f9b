"""The binary blobs of the authors' release: one file per clip and layer, as their extract_image_features writes it.

    with caffe_writer(Path("c3d"), layers=("fc6", "prob")) as write:
        write("v_Run_g01_c01", read_features("features/v_Run_g01_c01.avi.npz"))

gives c3d/v_Run_g01_c01/000000.fc6-1, 000000.prob, 000016.fc6-1, ... and the list and prefix files of such a run.
"""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import Floats, Write, clip_array, has_views, recorded, recorded_text
from c3dvideo.features.convert.outputs import Outputs, has_all_lines
from c3dvideo.features.store import VideoFeatures
from c3dvideo.files import path_inside

_BLOB_NAMES = {"fc6": "fc6-1", "fc7": "fc7-1", "fc8": "fc8-1"}


def blob_name(layer: str) -> str:
    """What the release calls a layer in its Sports-1M network: "fc6-1" for "fc6", the same name for the others."""
    return _BLOB_NAMES.get(layer, layer)


def blob_bytes(values: Floats) -> bytes:
    """One clip's values, (D,) or (C, T, H, W), as a blob file: five little-endian int32, then the float32 values.

    The five are num = 1, channels, length, height and width; a vector has length, height and width 1.
    """
    shape = (1, *values.shape, *(1,) * (4 - values.ndim))
    return struct.pack("<5i", *shape) + values.astype("<f4").tobytes()


@contextmanager
def caffe_writer(out: Path, *, layers: Sequence[str] = (), overwrite: bool = False) -> Iterator[Write]:
    """A function that writes the blobs of one video, of `layers` or of every stored layer, below `out`.

    Files are `<name>/<start>.<blob>`, start in six digits: the first frame, counted from 0 for a video and from 1 for a
    frame folder, as in the release. After the last video follow `input_list_video.txt` (`<path> <start> 0`, label 0)
    and `output_prefix_video.txt`, line by line its prefix; `..._frames.txt` for frame folders.
    """
    outputs = Outputs(out, overwrite=overwrite)
    lists: dict[str, list[str]] = defaultdict(list)

    def write(name: str, features: VideoFeatures) -> None:
        arrays = {layer: clip_array(features, layer) for layer in layers or features.layers}
        if any(has_views(array) for array in arrays.values()):
            raise StoreError(f"{features.name} has several crops per clip, a blob has one; extract with `crops=centre`")
        source = recorded_text(features, "source")
        if "\n" in source or "\n" in name:
            raise StoreError(f"{features.name!r} has a line break in its path, which a list file cannot hold")
        kind, first = ("frames", 1) if recorded(features, "frames_folder") is True else ("video", 0)
        starts = [int(start) + first for start in features.start_frame]
        path_inside(out, name)
        with outputs.video():
            for clip, start in enumerate(starts):
                for layer, array in arrays.items():
                    with outputs.file(f"{name}/{start:06d}.{blob_name(layer)}", "") as file:
                        file.write(blob_bytes(array[clip]))
        folder_slash = "/" if kind == "frames" else ""
        lists[f"input_list_{kind}.txt"] += [f"{source}{folder_slash} {start} 0\n" for start in starts]
        lists[f"output_prefix_{kind}.txt"] += [f"{out}/{name}/{start:06d}\n" for start in starts]

    yield write
    for file_name, lines in lists.items():
        with outputs.file(file_name, "", may_replace=has_all_lines) as file:
            # A path that is not UTF-8 stands there as its bytes: so the release's program opens the file.
            file.write(os.fsencode("".join(lines)))
