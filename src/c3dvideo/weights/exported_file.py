"""Read the description in an exported ONNX file, without ONNX.

    network = read_exported("c3d.onnx")                # an ExportedNetwork, for `make_engine(network, ...)`

The description is JSON in the file's metadata; the mean volume, where the profile subtracts one, lies beside it as
base64 of an .npy file.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from c3dvideo.errors import C3DVideoError, UsageError, WeightsError
from c3dvideo.inference.exported_network import ExportedNetwork
from c3dvideo.reading import ForeignFile, parse_json, read_bytes
from c3dvideo.reading_arrays import read_npy
from c3dvideo.weights.formats.protobuf import Malformed, fields

DESCRIPTION, MEAN_VOLUME = "c3dvideo", "c3dvideo_mean_volume"
"""Keys of the metadata of an exported file."""
_METADATA_PROPS = 14  # of ModelProto, in onnx.proto
_LARGEST_BYTES = 2 << 30  # of a protobuf message


def is_exported(weights: object) -> bool:
    """Whether these weights are named by the path of an ONNX file."""
    return isinstance(weights, str | Path) and Path(weights).suffix.lower() == ".onnx" and Path(weights).is_file()


def read_exported(path: str | Path) -> ExportedNetwork:
    """The network that an exported file computes.

    Raises UsageError for an ONNX file of another program, WeightsError for a damaged one.
    """
    file = ForeignFile(path, WeightsError, "a file of `c3dvideo export`", "export it again")
    metadata = _metadata(file)
    if DESCRIPTION not in metadata:
        raise UsageError(
            f"{path} does not say how its pixels are prepared, because `c3dvideo export` did not write it; import it "
            f"with `c3dvideo weights import {path} --out DIR`"
        )
    description = parse_json(metadata[DESCRIPTION], file)
    try:
        mean = None
        if MEAN_VOLUME in metadata:
            content = base64.b64decode(metadata[MEAN_VOLUME], validate=True)
            mean = read_npy(file, content=content)
        return ExportedNetwork.described(description, file=Path(path), mean_volume=mean)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, binascii.Error, C3DVideoError) as error:
        raise file.wrong(f"its description is damaged ({type(error).__name__}: {str(error)[:200]})") from error


def _metadata(file: ForeignFile) -> Mapping[str, str]:
    """The texts in the metadata of an ONNX file, by key."""
    found: dict[str, str] = {}
    try:
        for number, value in fields(memoryview(read_bytes(file, max_bytes=_LARGEST_BYTES))):
            if number == _METADATA_PROPS and isinstance(value, memoryview):
                entry = dict(fields(value))
                key, text = (entry.get(part, memoryview(b"")) for part in (1, 2))
                if isinstance(key, memoryview) and isinstance(text, memoryview):
                    found[bytes(key).decode()] = bytes(text).decode()
    except (Malformed, UnicodeDecodeError) as error:
        raise file.wrong(str(error)) from error
    return found
