"""Compute activations and logits for training, with fewer passes over memory than the network itself.

logits = fast_logits(network, clips)        # equal to network(clips), and so are the gradients
"""

from collections import deque
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from c3dvideo.network.c3d import C3D


def fast_logits(network: C3D, clips: Tensor, *, dropout: Mapping[str, Tensor] | None = None) -> Tensor:
    """The logits (N, num_classes) of clips, float (N, 3, clip_length, crop_size, crop_size).

    dropout: factor on every value of fc6 and fc7, (N, width) each, in the place of random numbers drawn here.
    """
    _, x = deque(fast_steps(network, clips, dropout=dropout), maxlen=1)[0]
    logits: Tensor = network.head(x)
    return logits


def fast_steps(
    network: C3D, clips: Tensor, *, dropout: Mapping[str, Tensor] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every activation before fc8. A convolution before a pool yields its value before ReLU.

    The maximum of ReLUs equals the ReLU of the maximum. ReLU therefore follows the pool, where a quarter or an eighth
    of the values is left. Pools run without autocast, which would convert them to float32: a maximum needs no rounding.
    """
    x = clips
    for name, following in zip(network.steps, network.steps[1:], strict=False):
        if name.startswith("pool"):
            with torch.autocast(x.device.type, enabled=False):
                x = torch.relu_(network.get_submodule(name)(x))
        elif name.startswith("conv") and following.startswith("pool"):
            x = network.get_submodule(name)(x)
        elif name == "fc8":
            return
        else:
            x = network.get_submodule(name)(x if name.startswith("conv") else x.flatten(1)).relu_()
            if dropout is not None and name in dropout:
                x = x * dropout[name].to(x)
            elif name.startswith("fc"):
                x = torch.nn.functional.dropout(x, network.architecture["dropout"], network.training)
        yield name, x
