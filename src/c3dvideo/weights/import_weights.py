"""Import weights of any published format as a network.

    network = import_weights(Path("c3d.pickle"))
    network = import_weights(Path("sports1m.caffemodel"), mean=Path("sport1m_train16_128_mean.binaryproto"))

The content of the file determines its format (`formats.recognise`). Widths, number of classes and the pool5 rule follow
from the arrays; profile and class names follow from the project. `network.provenance["notes"]` has one sentence per
assumption and per unused array.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from c3dvideo import __version__
from c3dvideo.choices import Pool5, Pool5Order
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.files import file_sha256
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import assemble
from c3dvideo.reading import ForeignFile, decompressed, read_bytes, read_text
from c3dvideo.reading_arrays import read_npy
from c3dvideo.video.preprocess import CAFFE, PROFILES, Profile
from c3dvideo.weights.formats.caffe import read_blob
from c3dvideo.weights.formats.found_arrays import Array, Found
from c3dvideo.weights.formats.recognise import read_arrays

LABELS = Path(__file__).parent / "labels"
MEAN_BYTES = 256 << 20
"""Largest mean file, before and after decompression; the release's is 12 MB."""
_LABELS = {487: "sports1m", 101: "ucf101"}
_CHANNEL_MEANS = {487: "caffe_channel_mean", 101: "caffe_ucf101_channel_mean"}
_DENSE = ("fc6.weight", "fc7.weight")
_CELLS: dict[int, tuple[Pool5, ...]] = {16: ("ceil", "symmetric"), 9: ("floor",)}
# The parsers of the different formats raise all of these for damaged files.
_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError, SystemError, NotImplementedError, struct.error, zipfile.BadZipFile, zlib.error),
)


def import_weights(
    file: str | Path,
    *,
    mean: str | Path | None = None,
    profile: str | None = None,
    classes: str | Path | None = None,
    fc6_rows: Pool5Order | None = None,
) -> C3D:
    """The network in `file`, float32, in evaluation mode.

    mean: file of its mean volume: `.binaryproto`, `.npy` or `.npy.bz2`, (3, T, H, W) or with a leading 1.
    profile: name in PROFILES, by default that of the file's project; it also determines the pool5 rule.
    classes: file with one class name per line, by default the list for this number of classes.
    fc6_rows: order of the rows of wd1 in a TensorFlow file, by default H, W, C.
    Raises WeightsError when the file is damaged or holds no C3D, UnsafePickleError when it could run code, UsageError
    when mean, profile or classes do not fit.

    >>> file, mean = "conv3d_deepnetA_sport1m_iter_1900000", "sport1m_train16_128_mean.binaryproto"
    >>> network = import_weights(file, mean=mean)
    >>> network.profile.name, network.mean_volume.shape, network.classes[0]
    ('caffe', (3, 16, 128, 171), 'boomerang')
    """
    file = Path(file)
    if profile is not None and profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    try:
        found = read_arrays(file, fc6_rows)
    except _DAMAGE as error:
        raise WeightsError(f"{file} is damaged or cut short: {error or type(error).__name__}") from error
    notes = [*found.notes]
    architecture, arrays = _architecture(found, notes)
    chosen = PROFILES[profile] if profile else found.profile
    volume = read_mean(Path(mean)) if mean else None
    chosen = _with_mean(chosen, volume, notes, n_classes=architecture["num_classes"], asked=profile is not None)
    rules = _CELLS[arrays["fc6.weight"].shape[1] // _channels(arrays)]
    rule = found.pool5 if found.pool5 and not profile else chosen.pool5
    architecture["pool5"] = rule if rule in rules else rules[0]
    tensors = {name: torch.from_numpy(np.array(array, np.float32, order="C")) for name, array in arrays.items()}
    if volume is not None:
        tensors["mean_volume"] = torch.from_numpy(volume)
    network = assemble(C3D, architecture, tensors, source=f"{file} ({found.layout})")
    network.profile = replace(chosen, pool5=architecture["pool5"])
    headless = "fc8.weight" not in found.arrays
    network.classes = _class_names(
        Path(classes) if classes else None, 0 if headless else architecture["num_classes"], notes
    )
    network.provenance = {
        "file": file.name,
        "layout": found.layout,
        "file_sha256": file_sha256(file),
        "mean_file": Path(mean).name if mean else None,
        "notes": notes,
        "version": __version__,
    }
    return network


def read_mean(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The mean volume (3, T, H, W) of a `.binaryproto`, `.npy` or `.npy.bz2` file.

    Raises UsageError when the file cannot be read, and WeightsError when it is damaged, of another shape, or larger
    than MEAN_BYTES after decompression.
    """
    if not path.is_file():
        raise UsageError(f"mean file {path} cannot be read: there is no such file")
    file = ForeignFile(path, WeightsError, "a mean volume (.binaryproto, .npy or .npy.bz2)")
    content = read_bytes(file, max_bytes=MEAN_BYTES)
    if content.startswith(b"BZh"):
        content = decompressed(content, file, max_bytes=MEAN_BYTES)
    is_npy = content.startswith(b"\x93NUMPY")
    volume: Array = read_npy(file, content=content) if is_npy else read_blob(path)
    if volume.ndim == 5 and volume.shape[0] == 1:
        volume = volume[0]
    if volume.ndim != 4 or volume.shape[0] != 3:
        raise WeightsError(f"mean file {path} holds an array {volume.shape}; expected (3, T, H, W) or (1, 3, T, H, W)")
    if not np.isfinite(volume).all():
        raise WeightsError(f"mean file {path} holds values that are not finite")
    return np.ascontiguousarray(volume, np.float32)


def _architecture(found: Found, notes: list[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Arguments of C3D that follow from the arrays, and the arrays, with an fc8 of zeros if the file has none."""
    arrays = dict(found.arrays)
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    letters = "abcdefgh"
    stages = [[name for x in letters if (name := f"conv{stage}{x}.weight") in shapes] for stage in range(1, 6)]
    wanted = [*(stage[0] if stage else f"conv{i}a.weight" for i, stage in enumerate(stages, 1)), *_DENSE]
    if missing := [name for name in wanted if len(shapes.get(name, ())) != (2 if name in _DENSE else 5)]:
        raise WeightsError(
            f"{found.source} is of another network: {', '.join(missing)} missing or of another shape; "
            f"it has {', '.join(list(shapes)[:8]) or 'no array of C3D'}"
        )
    channels, (fc_width, inputs) = _channels(arrays), shapes["fc6.weight"]
    if inputs % channels or inputs // channels not in _CELLS:
        raise WeightsError(
            f"{found.source}: fc6 takes {inputs} inputs of {channels} channels, so {inputs / channels:g} per channel; "
            "a clip of 16 frames of 112 pixels leaves 16 (pool5 ceil or symmetric) or 9 (floor)"
        )
    if "fc8.weight" not in shapes:
        arrays |= {"fc8.weight": np.zeros((487, fc_width), np.float32), "fc8.bias": np.zeros(487, np.float32)}
        notes.append("the file has no last layer: fc8 is zero, so fc8 and prob are meaningless until fc8 is trained")
    architecture = {
        "num_classes": len(arrays["fc8.weight"]),
        "stages": [[shapes[name][0] for name in stage] for stage in stages],
        "temporal_depths": [shapes[stage[0]][2] for stage in stages],
        "fc_width": fc_width,
    }
    if found.plain:
        architecture |= {"last_layer": "out", "dropout": 0.0, "filler": "xavier"}
        arrays |= {f"out.{kind}": arrays.pop(f"fc8.{kind}") for kind in ("weight", "bias") if f"fc8.{kind}" in arrays}
    return architecture, arrays


def _channels(arrays: Mapping[str, Array]) -> int:
    """Output channels of the last convolution."""
    return len(arrays[max(name for name in arrays if name.startswith("conv5") and name.endswith("weight"))])


def _with_mean(profile: Profile, volume: Array | None, notes: list[str], *, n_classes: int, asked: bool) -> Profile:
    """The profile adapted to the given mean volume or to its absence. A change adds a sentence to `notes`."""
    if volume is None:
        if profile.mean != "volume":
            return profile
        if asked:
            raise UsageError(f"profile {profile.name!r} subtracts a mean volume: give its file as `mean=`")
        means = PROFILES[_CHANNEL_MEANS.get(n_classes, "caffe_channel_mean")]
        notes.append(
            f"no mean volume was given: the mean per channel of profile {means.name} is used, which changes "
            "features by about 5%; give the mean volume as `mean=` to be exact"
        )
        return means if profile == CAFFE else replace(profile, name=f"{profile.name}_channel_mean", mean=means.mean)
    fits = profile.resize == "stretch" and volume.shape[2:] == (profile.resize_height, profile.resize_width)
    if profile.mean == "volume" and fits:
        return profile
    if fits:
        notes.append(f"the mean volume replaces the mean per channel of profile {profile.name}")
        return replace(profile, name=f"{profile.name}_volume", mean="volume")
    match = next((p for p in (CAFFE, PROFILES["i380k"]) if volume.shape[2:] == (p.resize_height, p.resize_width)), None)
    if asked or match is None:
        raise UsageError(
            f"the mean volume is {volume.shape}, and profile {profile.name!r} makes frames of "
            f"{profile.resize_height} x {profile.resize_width}"
        )
    notes.append(f"the mean volume has another frame size than profile {profile.name}: profile {match.name} is used")
    return match


def _class_names(file: Path | None, n_classes: int, notes: list[str]) -> tuple[str, ...]:
    """Class names from `file`, else the list for this number of classes; none for 0."""
    if file is not None:
        names = read_class_names(file)
        if n_classes and len(names) != n_classes:
            raise UsageError(f"{file} has {len(names)} class names, the network has {n_classes} classes")
        return names if n_classes else ()
    if n_classes not in _LABELS:
        if n_classes:
            notes.append(f"there is no list of class names for {n_classes} classes; give a file of them as `classes=`")
        return ()
    notes.append(f"{n_classes} classes: assumed to be those of {_LABELS[n_classes]} (or give names as `classes=`)")
    return read_class_names(LABELS / f"{_LABELS[n_classes]}.txt")


def read_class_names(file: Path) -> tuple[str, ...]:
    """The class names in `file`, one per line; leading numbers, as in UCF101's classInd.txt, are dropped."""
    text = read_text(ForeignFile(file, UsageError, "a list of class names, one per line"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [line.split(maxsplit=1) for line in lines]
    if all(len(parts) == 2 and parts[0].isdigit() for parts in numbered):
        lines = [parts[1] for parts in numbered]
    return tuple(lines)
