"""Back to the pixels: deconvolution of a unit, after Zeiler and Fergus (2014), and guided back-propagation.

    projections = deconvolve(network, clips, layer="conv5b", unit=17)       # float32 (n, 3, 16, 112, 112)
    gradients = guided_backprop(network, clips, target="walking")

Deconvolution is the view of the paper's Figure 4 (section 3.3): the strongest activation of a unit goes back through
transposed convolutions and ReLUs, and each maximum that pooling chose is put back where it came from. Guided
back-propagation (Springenberg et al. 2015) also drops what the ReLUs dropped on the way up. Captum computes both.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.explain.gradcam import clip_targets
from c3dvideo.explain.layered import class_model, network_input, unit_model
from c3dvideo.network.c3d import C3D

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe

Floats = np.ndarray[Any, np.dtype[np.float32]]


def deconvolve(network: C3D, clips: np.ndarray, *, layer: str = "conv5b", unit: int) -> Floats:
    """The strongest activation of a unit projected back to the pixels, float32 (n, 3, T, H, W), channels as the clips'.

    clips: uint8 (n, 3, T, H, W), as `read_clips` gives them. layer: any before fc8. unit: a channel of it.
    A clip to which the unit does not respond gives zeros.
    Raises UsageError for an unknown layer or unit, MissingExtraError without Captum.
    """
    check_unit(network, layer, unit)
    try:
        from captum.attr import Deconvolution
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    model, x = unit_model(network, layer), network_input(network, clips)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it sets hooks for the time of the call
        found = Deconvolution(model).attribute(x, target=unit)
    with torch.no_grad():
        responds = model(x)[:, unit] > 0
    projections: Floats = (found * responds.view(-1, 1, 1, 1, 1)).detach().cpu().numpy()
    return projections


def guided_backprop(
    network: C3D,
    clips: np.ndarray,
    *,
    target: str | int | Sequence[str | int] | None = None,
    probe: "Probe | None" = None,
) -> Floats:
    """Guided gradients of a class score by the pixels, float32 (n, 3, T, H, W); arguments as of `grad_cam`."""
    try:
        from captum.attr import GuidedBackprop
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    model, classes = class_model(network, probe)
    x = network_input(network, clips)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = GuidedBackprop(model).attribute(x, target=clip_targets(model, x, classes, target))
    gradients: Floats = found.detach().cpu().numpy()
    return gradients


def check_unit(network: C3D, layer: str, unit: int) -> None:
    """Raise UsageError unless the network has this unit."""
    network.check_layers([layer])
    if layer in ("fc8", "prob"):
        raise UsageError(f"units of {layer} are classes; explain them with grad_cam (`method=gradcam`)")
    n_units = network.layer_shape(layer)[0]
    if not 0 <= unit < n_units:
        raise UsageError(f"`unit={unit}`: {layer} of this network has the units 0 to {n_units - 1}")
