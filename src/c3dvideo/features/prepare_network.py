"""The network that an extractor computes with, from what its user gave: weights, profile, device, engine, precision.

network = prepare_network("embedded", profile_changes={"channel_order": "rgb"})
choose_precision("auto", "cpu", network)         # "fp32"
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from c3dvideo.choices import EngineName, Precision, PrecisionChoice
from c3dvideo.errors import UsageError
from c3dvideo.inference.exported_network import ExportedNetwork
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import fingerprint
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import PROFILES, Profile
from c3dvideo.weights.exported_file import is_exported, read_exported
from c3dvideo.weights.load import load_weights


def prepare_network(
    weights: str | Path | C3D | None,
    profile: Profile | str | None = None,
    profile_changes: Mapping[str, Any] | None = None,
) -> C3D:
    """The network of `weights` in evaluation mode, with another profile or some of its values changed.

    The pool5 rule of another profile, or a changed one, becomes the network's. Raises UsageError for an unknown profile
    or field, values that do not fit together, and a pool5 rule that fc6 cannot take.
    """
    if is_exported(weights):
        network: C3D = read_exported(cast(str, weights))
    else:
        network = weights.eval() if isinstance(weights, C3D) else load_weights(weights)
    if profile is None and not profile_changes:
        return network
    if isinstance(profile, str) and profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    chosen = PROFILES[profile] if isinstance(profile, str) else profile or network.profile
    values = chosen.to_dict() | dict(profile_changes or {})
    if profile_changes:
        values["name"] = "+".join([chosen.name, *sorted(profile_changes)])
    if isinstance(weights, C3D):
        network = deepcopy(network)  # the caller's network keeps its profile
    network.profile = Profile.from_dict(values)
    if profile is not None or "pool5" in (profile_changes or {}):
        network.use_pool5(network.profile.pool5)
    return network


def check_sizes(network: C3D, plan: ClipPlan) -> None:
    """Raise UsageError when clips of this plan, or the crops of its profile, do not fit the network."""
    length, size = network.architecture["clip_length"], network.architecture["crop_size"]
    if plan.clip_length != length:
        raise UsageError(f"clips have {plan.clip_length} frames, but fc6 of this network needs {length}")
    if network.profile.crop_size != size:
        raise UsageError(
            f"profile {network.profile.name!r} crops {network.profile.crop_size} pixels, but fc6 of this network "
            f"needs {size}"
        )


def network_fingerprint(network: C3D) -> str:
    """The fingerprint of the weights; of an exported file, that of the weights it was made from."""
    return network.fingerprint if isinstance(network, ExportedNetwork) else fingerprint(network)


def default_device(weights: object, device: str) -> str:
    """`device`, where "auto" is the CPU for an exported file."""
    is_file = is_exported(weights) or isinstance(weights, ExportedNetwork)
    return "cpu" if is_file and device == "auto" else device


def choose_engine_name(wanted: EngineName, network: C3D) -> EngineName:
    """The engine to use: for an exported file "onnx", and nothing else."""
    if not isinstance(network, ExportedNetwork):
        if wanted == "onnx":
            raise UsageError(
                "engine 'onnx' runs an exported file: make one with `c3dvideo export --to onnx --out FILE.onnx` and "
                "give it as `weights=FILE.onnx`"
            )
        return wanted
    if wanted not in ("auto", "onnx"):
        raise UsageError(f"{network.file} is an exported file, which engine 'onnx' runs, not {wanted!r}")
    return "onnx"


def choose_precision(wanted: PrecisionChoice, device_type: str, network: C3D) -> Precision:
    """The precision to compute in: by default fp16 on a GPU, which is as near to fp32 as TF32 is, and 20 times as fast.

    A clip that overflows in 16 bits is computed again in fp32. An exported file has one precision.
    """
    if isinstance(network, ExportedNetwork):
        if wanted not in ("auto", network.precision):
            raise UsageError(f"{network.file} computes in {network.precision}, not in {wanted}; take `precision=auto`")
        return network.precision
    if wanted != "auto":
        return wanted
    return "fp32" if device_type == "cpu" else "fp16"
