"""State dicts under the names of other PyTorch projects: the way back of `state_dicts`.

    torch.save(port_state_dict(network, "davidea"), "c3d.pickle")      # loads with their load_state_dict

Ports: "davidea" (DavideA/c3d-pytorch; jfzhang95's network has the same names), "vgg" (c3d-pretrained.pth of jfzhang95
and ViP: features.N and classifier.N, without fc8), "mmaction2" (its recogniser: backbone and head).
"""

from torch import Tensor

from c3dvideo.choices import Port, check_choice
from c3dvideo.errors import UsageError
from c3dvideo.network.c3d import C3D

# The numbers count the ReLUs and pools between the convolutions.
_VGG = {
    "conv1a": 0,
    "conv2a": 3,
    "conv3a": 6,
    "conv3b": 8,
    "conv4a": 11,
    "conv4b": 13,
    "conv5a": 16,
    "conv5b": 18,
}


def port_state_dict(network: C3D, port: Port) -> dict[str, Tensor]:
    """The arrays of a network under the names of a port; axes are the same everywhere.

    Raises UsageError for an unknown port, and for a network of other than the eight convolutions that ports have.
    """
    check_choice("to", port, Port)
    convolutions = tuple(name for name in network.steps if name.startswith("conv"))
    if convolutions != tuple(_VGG):
        raise UsageError(
            f"the ports have the convolutions {', '.join(_VGG)}; this network has {', '.join(convolutions)}"
        )
    found = {}
    for name, layer in network.named_layers():
        ours = "fc8" if name == network.architecture["last_layer"] else name
        theirs = {"davidea": _davidea, "vgg": _vgg, "mmaction2": _mmaction2}[port](ours)
        if theirs is not None:
            for kind, array in layer.named_parameters():
                found[f"{theirs}.{kind}"] = array.detach().clone()
    return found


def _davidea(ours: str) -> str:
    return {"conv1a": "conv1", "conv2a": "conv2"}.get(ours, ours)


def _vgg(ours: str) -> str | None:
    if ours in _VGG:
        return f"features.{_VGG[ours]}"
    return {"fc6": "classifier.0", "fc7": "classifier.3"}.get(ours)


def _mmaction2(ours: str) -> str:
    if ours == "fc8":
        return "cls_head.fc_cls"
    return f"backbone.{ours}.conv" if ours.startswith("conv") else f"backbone.{ours}"
