"""A network as PyTorch modules, one per activation, as Captum needs it, and the scores that are explained.

    model = LayeredNetwork(network, class_scores(network))
    model(x)                              # (N, classes): the logits
    model.module_of("conv5b")             # the module whose output is that activation

Weights are shared with the network and not changed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from c3dvideo.errors import UsageError
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe

Scores = Callable[[Mapping[str, Tensor]], Tensor]


class LayeredNetwork(nn.Module):
    """The network with a ReLU module behind every layer that has one; its output are the scores, (N, targets).

    layers: the activations that `scores` takes; computation stops at the deepest.
    """

    def __init__(self, network: C3D, layers: Sequence[str], scores: Scores) -> None:
        super().__init__()
        self.wanted = network.check_layers(layers)
        last = max(network.steps.index(name) for name in self.wanted)
        self.steps = network.steps[: last + 1]
        self.scores = scores
        self.parts = nn.ModuleDict()
        for name in self.steps:
            if name == "prob":
                raise UsageError("prob cannot be explained; explain fc8, whose classes are the same")
            self.parts[name] = network.head if name == "fc8" else network.get_submodule(name)
            if name.startswith("conv") or name in ("fc6", "fc7"):
                self.parts[f"{name}_relu"] = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, targets) of network input (N, 3, T, H, W)."""
        found: dict[str, Tensor] = {}
        for name in self.steps:
            x = self.parts[name](x.flatten(1) if name.startswith("fc") else x)
            if f"{name}_relu" in self.parts:
                x = self.parts[f"{name}_relu"](x)
            if name in self.wanted:
                found[name] = x
        return self.scores(found)

    def module_of(self, layer: str) -> nn.Module:
        """The module whose output is the activation `layer`; raises UsageError for one that is not computed."""
        if layer not in self.steps:
            raise UsageError(f"layer {layer!r} comes after what is explained; there are {', '.join(self.steps)}")
        return self.parts[f"{layer}_relu"] if f"{layer}_relu" in self.parts else self.parts[layer]


def class_model(network: C3D, probe: "Probe | None" = None) -> tuple[LayeredNetwork, tuple[str, ...]]:
    """The model whose scores are those of the network's classes, or of a probe's, and the names of the classes.

    A probe scores each clip's own L2-normalised features.
    """
    if probe is None:
        names = network.classes or tuple(str(index) for index in range(network.architecture["num_classes"]))
        return LayeredNetwork(network, ["fc8"], lambda found: found["fc8"]).eval(), names
    coefficients = torch.from_numpy(probe.coefficients.astype(np.float32))
    intercepts = torch.from_numpy(probe.intercepts.astype(np.float32))
    layers = probe.layers

    def scores(found: Mapping[str, Tensor]) -> Tensor:
        parts = [nn.functional.normalize(found[layer].flatten(1), dim=1) for layer in layers]
        return torch.cat(parts, dim=1) @ coefficients.T.to(parts[0].device) + intercepts.to(parts[0].device)

    return LayeredNetwork(network, layers, scores).eval(), probe.classes


def unit_model(network: C3D, layer: str) -> LayeredNetwork:
    """The model whose scores are the strongest activation of every unit (channel) of a layer, anywhere in the clip."""

    def scores(found: Mapping[str, Tensor]) -> Tensor:
        activation = found[layer]
        # `max` sends the gradient back to one place, `amax` would share it among equal ones.
        return activation.flatten(2).max(dim=2).values if activation.ndim > 2 else activation

    return LayeredNetwork(network, [layer], scores).eval()


def class_index(classes: Sequence[str], wanted: str | int) -> int:
    """The index of a class given by name or number; raises UsageError when there is none."""
    if isinstance(wanted, str) and wanted in classes:
        return list(classes).index(wanted)
    number = int(wanted) if str(wanted).isdecimal() and len(str(wanted)) < 10 else -1
    if not 0 <= number < len(classes):
        shown = ", ".join(classes[:8]) + ", ..." * (len(classes) > 8)
        raise UsageError(f"there is no class {str(wanted)!r}; the {len(classes)} classes are {shown}")
    return number


def network_input(network: C3D, clips: np.ndarray) -> Tensor:
    """Network input, float32 (N, 3, T, H, W), of uint8 clips of that shape in the profile's channel order.

    Raises UsageError for clips of another type or shape.
    """
    size = network.architecture["crop_size"]
    expected = (3, network.architecture["clip_length"], size, size)
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[1:] != expected:
        raise UsageError(f"clips are {clips.dtype} {clips.shape}; expected uint8 (N, {', '.join(map(str, expected))})")
    device = next(network.parameters()).device
    scaling = Scaling.of(network, network.profile.views("centre"), device)
    return scaling.apply(torch.from_numpy(np.ascontiguousarray(clips)).to(device))
