"""The formats of weights files: how each is recognised, and what reads it. One entry per format.

    found = read_arrays(Path("c3d.pickle"))        # Found: arrays under our names, and what follows from the project

A format is recognised by the first and last bytes of a file, because in the projects that passed C3D around the same
names stand for different formats.
"""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from c3dvideo.choices import Pool5Order
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.files import os_reason
from c3dvideo.network.folder import CONFIG
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npz
from c3dvideo.weights.formats import layer_order, state_dicts, tensorflow
from c3dvideo.weights.formats.found_arrays import Found
from c3dvideo.weights.formats.pickles import read_pickle, read_torch

_LEGACY_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\([ld]|[\]}]q|c[\w.]+\r?\n\w+")  # protocol 2 and later, or 0 and 1
_MXNET = b"\x12\x01\x00\x00\x00\x00\x00\x00"
_TORCH7 = (b"\x04\x00\x00\x00\x01\x00\x00\x00", b"\x03\x00\x00\x00\x01\x00\x00\x00")


@dataclass(frozen=True)
class Ends:
    """A file by its ends: its first 512 and last 8 bytes, and its size in bytes."""

    path: Path
    head: bytes
    tail: bytes
    size: int


@dataclass(frozen=True)
class Format:
    """One format. fits: whether a file is of it. read: its arrays; raises WeightsError where it cannot be imported.

    The second argument of `read` is the order of the rows of wd1, for TensorFlow's variables.
    """

    name: str
    fits: Callable[[Ends], bool]
    read: Callable[[Path, Pool5Order | None], Found]


def read_arrays(file: Path, fc6_rows: Pool5Order | None = None) -> Found:
    """The arrays of a weights file of any known format.

    Raises WeightsError for an empty or unknown file, UsageError for a folder, a file that cannot be read and `fc6_rows`
    of a file that is not TensorFlow's; and whatever a parser raises for damage.
    """
    ends = _ends(file)
    known = next((each for each in FORMATS if each.fits(ends)), None)
    if known is None:
        raise WeightsError(
            f"{file} is of no known weights format; there are Caffe models, PyTorch and plain pickles, safetensors, "
            "Keras HDF5, ONNX, TensorFlow checkpoints and npz (see `c3dvideo weights list`)"
        )
    found = known.read(file, fc6_rows)
    if fc6_rows and not found.layout.startswith("TensorFlow"):
        raise UsageError(f"`fc6_rows=` is for TensorFlow files; {file} is a {found.layout}")
    return replace(found, source=str(file))


def _ends(file: Path) -> Ends:
    if file.is_dir():
        hint = "is a weights folder already" if (file / CONFIG).is_file() else "is a folder, not a weights file"
        raise UsageError(f"{file} {hint}")
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(512)
            opened.seek(max(0, size - 8))
            tail = opened.read()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {os_reason(error)}") from error
    if not head:
        raise WeightsError(f"{file} is empty (0 bytes); fetch it again")
    return Ends(file, head, tail, size)


def _begins(*marks: bytes) -> Callable[[Ends], bool]:
    return lambda ends: ends.head.startswith(marks)


def _refuses(what: str) -> Callable[[Path, Pool5Order | None], Found]:
    def read(path: Path, _: Pool5Order | None) -> Found:
        raise WeightsError(f"{path} is {what}")

    return read


def _read_tensorflow(path: Path, rows: Pool5Order | None) -> Found:
    # That one network was converted from the release, whose fc6 reads channels first.
    usual: Pool5Order = "chw" if "sports1m_finetuning_ucf101" in path.name else "hwc"
    return layer_order.from_tensorflow(tensorflow.read_checkpoint(path), rows=rows or usual)


def _read_zip(path: Path, rows: Pool5Order | None) -> Found:
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    if "model.weights.h5" in members:
        return layer_order.from_keras(path)
    if any(not name.endswith(".npy") for name in members):
        return state_dicts.from_checkpoint(read_torch(path))
    with read_npz(ForeignFile(path, WeightsError, "an .npz archive of weights")) as arrays:
        named = {name: arrays.array(name, kinds="fiub") for name in arrays.names}
    return layer_order.from_tensorflow(named, rows=rows) if rows else state_dicts.from_named_arrays(named)


def _read_safetensors(path: Path, _: Pool5Order | None) -> Found:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return state_dicts.from_checkpoint(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or cut short: {error}") from error


def _is_safetensors(ends: Ends) -> bool:
    return ends.head[8:9] == b"{" and int.from_bytes(ends.head[:8], "little") < ends.size


def _is_text(ends: Ends) -> bool:
    return ends.head.lstrip()[:1] in (b"<", b"{") or ends.head.startswith(b"version https://git-lfs")


# The order matters: an ONNX file and a Caffe model begin with one byte that others may begin with, too.
FORMATS = (
    Format("TensorFlow checkpoint", lambda ends: ends.tail == tensorflow.MAGIC, _read_tensorflow),
    Format(
        "MXNet parameters",
        _begins(_MXNET),
        _refuses(
            "an MXNet parameter file; import GluonCV's ONNX file of the same network; see `c3dvideo weights list`"
        ),
    ),
    Format(
        "Torch7",
        _begins(*_TORCH7),
        _refuses("a Torch7 file; import another copy of the network; see `c3dvideo weights list`"),
    ),
    Format("Keras HDF5", _begins(b"\x89HDF"), lambda path, _: layer_order.from_keras(path)),
    Format("PyTorch, Keras 3 or npz", _begins(b"PK\x03\x04"), _read_zip),
    Format("safetensors", _is_safetensors, _read_safetensors),
    Format(
        "PyTorch before 1.6",
        lambda ends: _LEGACY_TORCH in ends.head[:16],
        lambda path, _: state_dicts.from_checkpoint(read_torch(path)),
    ),
    Format(
        "pickle",
        lambda ends: _PICKLE.match(ends.head) is not None,
        lambda path, _: state_dicts.from_checkpoint(read_pickle(path)),
    ),
    Format("text", _is_text, _refuses("a text or web page, not weights; the download failed, fetch the file again")),
    Format(
        "ONNX",
        lambda ends: ends.head.startswith(b"\x08") or ends.path.suffix == ".onnx",
        lambda path, _: layer_order.from_onnx(path),
    ),
    Format("Caffe model", _begins(b"\x0a", b"\x12"), lambda path, _: state_dicts.from_caffe(path)),
)
