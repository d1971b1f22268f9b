"""Create the initial network of a run, random or from other weights with a random last layer, and set its input mean.

network = initial_network(settings, classes, init=None)
set_input(network, settings, clips)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from c3dvideo.choices import Filler
from c3dvideo.errors import UsageError
from c3dvideo.network.c3d import C3D, SMALL_STAGES, STAGES
from c3dvideo.training.folding import with_batch_norm
from c3dvideo.training.sampling import Pixels, mean_volume
from c3dvideo.training.settings import TrainSettings
from c3dvideo.video.preprocess import CAFFE, Profile


def initial_network(settings: TrainSettings, classes: Sequence[str], init: C3D | None) -> C3D:
    """A network with one output per class, initialised from torch's generator; layers of `init` are copied.

    With `init`, architecture and profile are those of `init`. Without, they follow the settings. Raises UsageError if
    the mean of the settings does not fit the profile of `init`.
    """
    network = _fresh(settings, len(classes)) if init is None else _copied(settings, len(classes), init)
    network.classes = tuple(classes)
    return network


def set_input(network: C3D, settings: TrainSettings, clips: Iterable[Pixels]) -> None:
    """Set the mean (and standard deviation) of the network's profile, in place.

    clips: training clips in a fixed order, uint8 (T, 3, H, W). Every tenth is used, as in the release.
    """
    if settings.mean == "weights":
        return
    if settings.mean == "volume":
        network.mean_volume = mean_volume(clips)
        network.profile = replace(network.profile, mean="volume", scale=1.0, std=(1.0, 1.0, 1.0))
        return
    sums, squares, n_values = np.zeros(3), np.zeros(3), 0
    for number, clip in enumerate(clips):
        if number % 10 == 0:
            values = clip.astype(np.float64)
            sums += values.sum(axis=(0, 2, 3))
            squares += (values**2).sum(axis=(0, 2, 3))
            n_values += values.size // 3
    mean = sums / n_values
    deviation = np.sqrt(np.maximum(squares / n_values - mean**2, 1.0))
    network.mean_volume = None
    network.profile = replace(network.profile, mean=_three(mean), scale=1.0, std=_three(deviation))


def _three(values: np.ndarray) -> tuple[float, float, float]:
    """One number per channel, in the profile's channel order, with as many digits as a profile shows."""
    first, second, third = (round(float(value), 3) for value in values)
    return first, second, third


def scratch_profile(settings: TrainSettings) -> Profile:
    """The release's profile, scaled to the crop size of the settings; 112 pixels give the release's own sizes."""
    if settings.crop_size == CAFFE.crop_size:
        return replace(CAFFE, name="trained")
    height, width = (round(side * settings.crop_size / CAFFE.crop_size) for side in (128, 171))
    return replace(
        CAFFE,
        name="trained",
        resize_height=height,
        resize_width=width,
        crop_size=settings.crop_size,
        crop_top=None,
        crop_left=None,
    )


def _fresh(settings: TrainSettings, n_classes: int) -> C3D:
    stages = STAGES if settings.network == "c3d" else SMALL_STAGES
    fc_width = 4096 if settings.network == "c3d" else 2048
    network = C3D(
        num_classes=n_classes,
        stages=[[max(1, round(width * settings.width)) for width in stage] for stage in stages],
        temporal_depths=settings.temporal_depths,
        fc_width=settings.fc_width or max(1, round(fc_width * settings.width)),
        dropout=settings.dropout,
        filler=_filler(settings),
        clip_length=settings.clip_length,
        crop_size=settings.crop_size,
    )
    if settings.filler == "he":
        _initialise_he(network)
    if settings.batch_norm:
        with_batch_norm(network)
    network.profile = scratch_profile(settings)
    return network


def _copied(settings: TrainSettings, n_classes: int, init: C3D) -> C3D:
    own = {"num_classes": n_classes, "dropout": settings.dropout, "last_layer": "fc8", "filler": _filler(settings)}
    network = C3D(**{**init.architecture, **own})
    if settings.filler == "he":
        _initialise_he(network)
    arrays = init.state_dict()
    wanted = [
        name
        for name, _ in network.named_layers()
        if name != "fc8" and (settings.copy_layers == "all" or name.startswith("conv"))
    ]
    for name in wanted:
        for kind in ("weight", "bias"):
            network.get_parameter(f"{name}.{kind}").data.copy_(arrays[f"{name}.{kind}"])
    network.profile, network.mean_volume = init.profile, init.mean_volume
    if network.profile.resize == "short_side" and settings.mean == "volume":
        raise UsageError(
            "`mean=volume` needs frames of one size, but the profile of the weights keeps the aspect ratio; use "
            "`mean=channel` or `mean=weights`"
        )
    return network


def _filler(settings: TrainSettings) -> Filler:
    return "gaussian" if settings.filler == "gaussian" else "xavier"


@torch.no_grad()
def _initialise_he(network: C3D) -> None:
    """Set variance 2 / inputs for weights and 0 for biases. A small last layer makes the first loss ln(classes)."""
    for name, layer in network.named_layers():
        fan_in = layer.weight[0].numel()
        nn.init.normal_(layer.weight, std=0.001 if name == "fc8" else math.sqrt(2 / fan_in))
        nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]
