"""Check a weights folder for damage, and identify its network.

    report = check_folder("weights", against="other")
    report.faults, report.arrays[0].sha256

No publisher states checksums. Imported copies of the Sports-1M network from different projects have identical arrays,
so `against` verifies one copy with another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import (
    BESIDE_WEIGHTS,
    MEAN,
    array_faults,
    digests,
    fingerprint,
    load_folder,
    read_config,
    read_tensors,
)
from c3dvideo.video.preprocess import Profile


@dataclass(frozen=True, kw_only=True)
class ArrayReport:
    """One array. recorded: its sha256 equals that in the config. same: the other folder has an identical array.

    `same` is None without another folder, and for the mean volume, since copies of one network have different ones.
    """

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    sha256: str
    recorded: bool
    same: bool | None


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Result of a check. The weights folder is intact when `faults` is empty."""

    folder: str
    fingerprint: str | None
    n_parameters: int
    profile: str | None
    faults: tuple[str, ...]
    arrays: tuple[ArrayReport, ...]


def check_folder(directory: str | Path, *, against: str | Path | None = None) -> WeightsReport:
    """A report of the shapes, statistics and hashes of all arrays in a weights folder, and of all its faults.

    against: another weights folder; every difference between their arrays is a fault.
    """
    directory = Path(directory)
    try:
        config, tensors = read_config(directory), read_tensors(directory)
    except WeightsError as error:
        return WeightsReport(
            folder=str(directory), fingerprint=None, n_parameters=0, profile=None, faults=(str(error),), arrays=()
        )
    recorded, other = config["sha256"], digests(read_tensors(Path(against))) if against is not None else None
    arrays = tuple(
        ArrayReport(
            name=name,
            shape=tuple(tensors[name].shape),
            mean=float(tensors[name].mean()),
            std=float(tensors[name].std(correction=0)),
            sha256=digest,
            recorded=recorded.get(name) == digest,
            same=None if other is None or name in BESIDE_WEIGHTS else other.get(name) == digest,
        )
        for name, digest in digests(tensors).items()
    )
    faults = _config_faults(config, tensors)
    faults += [f"{name} is not the array that the config was written for" for name in _names(arrays, "recorded")]
    faults += [f"{name} is not the array of {against}" for name in _names(arrays, "same")]
    faults += [f"{name} of {against} is missing" for name in (other or {}).keys() - {*BESIDE_WEIGHTS} - tensors.keys()]
    return WeightsReport(
        folder=str(directory),
        fingerprint=None if faults else fingerprint(load_folder(C3D, directory)),
        n_parameters=sum(array.numel() for name, array in tensors.items() if name not in BESIDE_WEIGHTS),
        profile=config["profile"].get("name"),
        faults=tuple(faults),
        arrays=arrays,
    )


def _config_faults(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Contradictions between architecture, profile, class names and arrays."""
    try:
        with torch.device("meta"):
            network = C3D(**config["architecture"])
        profile = Profile.from_dict(config["profile"])
    except (TypeError, KeyError, UsageError) as error:
        return [f"the config describes no C3D network: {error}"]
    faults = array_faults({name: tuple(array.shape) for name, array in network.state_dict().items()}, tensors)
    n_classes, n_names = network.architecture["num_classes"], len(config["classes"])
    if n_names not in (0, n_classes):
        faults.append(f"{n_names} class names for {n_classes} classes")
    if profile.mean == "volume" or MEAN in config["sha256"]:
        volume = tensors.get(MEAN)
        expected = (3, network.architecture["clip_length"], profile.resize_height, profile.resize_width)
        if volume is None or tuple(volume.shape) != expected:
            shape = "missing" if volume is None else tuple(volume.shape)
            faults.append(f"the mean volume is {shape}, expected {expected} for profile {profile.name}")
    return faults


def _names(arrays: tuple[ArrayReport, ...], what: str) -> list[str]:
    return [array.name for array in arrays if getattr(array, what) is False]
