"""Grad-CAM and Grad-CAM++ in three dimensions: which pixels of which frames speak for a class.

    maps = grad_cam(network, clips, target="walking")          # float32 (n, 16, 112, 112), 0 to 1
    maps = grad_cam(network, clips, target="jog", probe=probe, layer="conv4b", plus_plus=True)

Grad-CAM (Selvaraju et al. 2017) weights the channels of a layer by the mean gradient of the class score; Grad-CAM++
(Chattopadhay et al. 2018) by a mean in which each place counts by its own gradients. Captum computes the former.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.explain.layered import LayeredNetwork, class_index, class_model, network_input
from c3dvideo.network.c3d import C3D

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe

Floats = np.ndarray[Any, np.dtype[np.float32]]


def grad_cam(
    network: C3D,
    clips: np.ndarray,
    *,
    target: str | int | Sequence[str | int] | None = None,
    probe: "Probe | None" = None,
    layer: str | None = None,
    plus_plus: bool = False,
) -> Floats:
    """Maps of the evidence for a class, float32 (n, T, H, W) at the size of the clips, each from 0 to 1.

    clips: uint8 (n, 3, T, H, W) in the channel order of the network's profile, as `read_clips` gives them.
    target: a class by name or number, or one per clip; None is the best class of each clip. probe: explain its classes
        in place of the network's own. layer: a convolution or pooling layer; None takes that of `map_layer`.
    A map without any evidence for the class is zero everywhere; the others have a maximum of 1.
    Raises UsageError for an unknown class or layer and for clips of another size, MissingExtraError without Captum.

    >>> from c3dvideo import C3D
    >>> network = C3D(num_classes=5, stages=((4,), (4,), (8,), (8,), (8,)), fc_width=16, filler="xavier").eval()
    >>> network.mean_volume = np.full((3, 16, 128, 171), 100, np.float32)
    >>> grad_cam(network, np.zeros((2, 3, 16, 112, 112), np.uint8), target=1, layer="conv5a").shape
    (2, 16, 112, 112)
    """
    layer = map_layer(network) if layer is None else layer
    if layer not in network.steps or not layer.startswith(("conv", "pool")):
        shown = ", ".join(name for name in network.steps if name.startswith(("conv", "pool")))
        raise UsageError(f"`layer={layer}` has no maps; choose one of {shown}")
    model, classes = class_model(network, probe)
    x = network_input(network, clips)
    targets = clip_targets(model, x, classes, target)
    if not len(x):
        return np.zeros((0, *clips.shape[2:]), np.float32)
    cam = _plus_plus(model, x, targets, layer) if plus_plus else _captum(model, x, targets, layer)
    cam = nn.functional.interpolate(cam, size=clips.shape[2:], mode="trilinear", align_corners=False)[:, 0]
    largest = cam.amax(dim=(1, 2, 3), keepdim=True)
    maps: Floats = torch.where(largest > 0, cam / largest.clamp_min(torch.finfo(cam.dtype).tiny), cam).cpu().numpy()
    return maps


def map_layer(network: C3D) -> str:
    """The layer whose maps are computed by default: the last of conv5, or of conv4 with the profile `embedded`.

    In maps of the embedded weights at conv4b, generated objects have more of the mass than at conv5b, whose places are
    twice as wide; docs/explain.md has the measurement.

    >>> from c3dvideo import C3D, load_weights
    >>> map_layer(load_weights()), map_layer(C3D(num_classes=2, fc_width=8))
    ('conv4b', 'conv5b')
    """
    stage = "conv4" if network.profile.name == "embedded" else "conv5"
    return [name for name in network.steps if name.startswith(stage)][-1]


def clip_scores(network: C3D, clips: np.ndarray, probe: "Probe | None" = None) -> tuple[Floats, tuple[str, ...]]:
    """The softmax of the network, or the scores of a probe, float32 (n, classes), and the names of the classes."""
    model, classes = class_model(network, probe)
    with torch.no_grad():
        scores = model(network_input(network, clips))
        found: Floats = (scores if probe is not None else torch.softmax(scores, dim=1)).cpu().numpy()
    return found, classes


def clip_targets(
    model: LayeredNetwork, x: Tensor, classes: Sequence[str], target: str | int | Sequence[str | int] | None
) -> list[int]:
    """The class index of every clip; None takes the best class of each."""
    if target is None:
        with torch.no_grad():
            best: list[int] = model(x).argmax(dim=1).tolist()
            return best
    wanted = [target] * len(x) if isinstance(target, str | int) else list(target)
    if len(wanted) != len(x):
        raise UsageError(f"{len(wanted)} targets for {len(x)} clips; expected one for all or one for each")
    return [class_index(classes, each) for each in wanted]


def _captum(model: LayeredNetwork, x: Tensor, targets: list[int], layer: str) -> Tensor:
    """Grad-CAM at the size of the layer, (N, 1, T, H, W), not negative."""
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = LayerGradCam(model, model.module_of(layer)).attribute(x, target=targets, relu_attributions=True)
    return found.detach()  # type: ignore[no-any-return]


def _plus_plus(model: LayeredNetwork, x: Tensor, targets: list[int], layer: str) -> Tensor:
    """Grad-CAM++ at the size of the layer; equation 19 of its paper, for the exponential of the class score."""
    kept: list[Tensor] = []
    hook = model.module_of(layer).register_forward_hook(lambda module, given, output: kept.append(output))
    try:
        scores = model(x)
    finally:
        hook.remove()
    (activation,) = kept
    (gradient,) = torch.autograd.grad(scores[range(len(x)), targets].sum(), activation)
    places = (2, 3, 4)
    square, cube = gradient**2, gradient**3
    below = 2 * square + (activation * cube).sum(dim=places, keepdim=True)
    share = torch.where(square > 0, square / torch.where(below.abs() > 0, below, torch.ones_like(below)), 0)
    weights = (share * torch.relu(gradient)).sum(dim=places, keepdim=True)
    return torch.relu((weights * activation).sum(dim=1, keepdim=True)).detach()
