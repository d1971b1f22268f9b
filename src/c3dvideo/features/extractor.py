"""Recipe: a network made ready to run, with everything else that decides the numbers it gives for a video.

recipe = make_recipe("my_weights", layers=["fc6"], plan=ClipPlan(stride_frames=8))
recipe.settings                      # the same, as JSON: what a folder of features is known by
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from c3dvideo.choices import Crops, EngineName, Pool, Precision
from c3dvideo.errors import UsageError
from c3dvideo.features.store import FORMAT
from c3dvideo.inference.engine import Engine, make_engine
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import fingerprint
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import PROFILES, Profile
from c3dvideo.weights.load import load_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """How videos become activations.

    label: the weights as the user named them. settings: what decides the numbers, as JSON; the device, the engine and
    the batch size are not in it, they only move the last bits. batch_size: clips a call of the network. workers:
    decoding threads.
    """

    network: C3D
    engine: Engine
    plan: ClipPlan
    settings: Mapping[str, Any]
    label: str
    batch_size: int
    workers: int

    def __str__(self) -> str:
        return (
            f"{', '.join(self.settings['layers'])} of {self.label} ({self.settings['weights'][:12]}), "
            f"profile {self.network.profile.name}, "
            f"engine {self.engine.name} in {self.engine.precision} on {self.engine.device}"
        )


def make_recipe(
    weights: str | Path | C3D | None,
    *,
    layers: Sequence[str],
    plan: ClipPlan | None = None,
    crops: Crops = "centre",
    pool: Pool | None = None,
    profile: Profile | str | None = None,
    profile_changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    engine: EngineName = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    n_processes: int = 1,
) -> Recipe:
    """The recipe; the arguments are explained at `extract`. n_processes: how many share the cores of the machine.

    Raises UsageError for parts that do not fit together.
    """
    network = prepare_network(weights, profile, profile_changes)
    plan = plan or ClipPlan(clip_length=network.architecture["clip_length"])
    _check_sizes(network, plan)
    runner = make_engine(
        network,
        layers=layers,
        views=network.profile.views(crops),
        device=device,
        precision=precision,
        engine=engine,
        shift_frames=_shift_frames(plan),
        batch_clips=batch_size,
    )
    mean = network.mean_volume if network.profile.mean == "volume" else None
    settings = {
        "format": FORMAT,
        "weights": fingerprint(network),
        "mean_sha256": None if mean is None else sha256(mean.tobytes()).hexdigest(),
        "profile": network.profile.to_dict(),
        "pool5": network.architecture["pool5"],
        "layers": [name for name in network.steps if name in runner.layers],
        "plan": asdict(plan),
        "crops": crops,
        "pool": pool,
        "precision": precision,
    }
    on_cpu = runner.device.type == "cpu"
    cores = max(1, n_cores() // n_processes)
    return Recipe(
        network=network,
        engine=runner,
        plan=plan,
        settings=settings,
        label=_label(weights),
        batch_size=runner.batch_clips,
        # Beside a network on the CPU, decoding needs a fraction of a core; a GPU takes all that the cores can decode.
        workers=workers or max(1, cores // 4 if on_cpu else cores),
    )


def prepare_network(
    weights: str | Path | C3D | None,
    profile: Profile | str | None = None,
    profile_changes: Mapping[str, Any] | None = None,
) -> C3D:
    """The network of `weights` in evaluation mode, with another profile or some of its values changed.

    The pool5 rule of another profile, or a changed one, becomes the network's. Raises UsageError for an unknown profile
    or field, values that do not fit together, and a pool5 rule that fc6 cannot take.
    """
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
        network = deepcopy(network)
    network.profile = Profile.from_dict(values)
    if profile is not None or "pool5" in (profile_changes or {}):
        network.use_pool5(network.profile.pool5)
    return network


def _check_sizes(network: C3D, plan: ClipPlan) -> None:
    length, size = network.architecture["clip_length"], network.architecture["crop_size"]
    if plan.clip_length != length:
        raise UsageError(f"clips have {plan.clip_length} frames, but fc6 of this network needs {length}")
    if network.profile.crop_size != size:
        raise UsageError(
            f"profile {network.profile.name!r} crops {network.profile.crop_size} pixels, but fc6 of this network "
            f"needs {size}"
        )


def _shift_frames(plan: ClipPlan) -> int | None:
    """After how many of its own frames the next clip starts, when clips overlap frame on frame."""
    shift, remainder = divmod(plan.stride_frames, plan.sampling_rate)
    return shift if remainder == 0 and shift < plan.clip_length else None


def _label(weights: str | Path | C3D | None) -> str:
    if isinstance(weights, C3D):
        return "a network in memory"
    return "the default weights" if weights is None else f"weights {weights}"
