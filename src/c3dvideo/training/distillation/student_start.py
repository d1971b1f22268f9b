"""The student before its first step: a C3D with batch normalisation that computes what its weights computed.

student = start_student("embedded", batches)         # or a weights folder or name; None: random weights
"""

import torch
from torch import nn

from c3dvideo.errors import UsageError
from c3dvideo.network.c3d import C3D
from c3dvideo.synthetic import EVERYDAY
from c3dvideo.training.distillation.student_batches import StudentBatches
from c3dvideo.training.distillation.student_steps import START_STEPS
from c3dvideo.training.folding import with_batch_norm
from c3dvideo.training.pretraining.pretraining_input import PROFILE, network_input
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.weights.load import load_weights

_MOST_BATCHES, _BATCH = 4, 16


def start_student(init: str | None, batches: StudentBatches) -> C3D:
    """A network on the CPU, normalised up to fc6, whose classes are the everyday ones of generated clips.

    Raises UsageError for weights of another input: the student sees RGB clips of 16 frames of 112 x 112 pixels with the
    embedded weights' mean.
    """
    if init is None:
        shape = PretrainSettings()
        network = C3D(num_classes=len(EVERYDAY), stages=shape.stages, fc_width=shape.fc_width, filler="xavier")
        for name, layer in network.named_layers():
            if name.startswith("conv") or name == "fc6":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        inputs = None
    else:
        network = _with_everyday_head(load_weights(init), init)
        n_batches = max(1, min(_MOST_BATCHES, batches.settings.settling_clips // _BATCH))
        inputs = [
            network_input(batches.batch(START_STEPS + number, n=_BATCH, size=112).clips.cpu())
            for number in range(n_batches)
        ]
    network.profile, network.classes = PROFILE, EVERYDAY
    with_batch_norm(network, inputs, skip=("fc7",))
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network


@torch.no_grad()
def _with_everyday_head(given: C3D, init: str) -> C3D:
    """The network with another last layer, which is fitted at the end of the run."""
    shape = (given.architecture["clip_length"], given.architecture["crop_size"])
    ours, theirs = ({**profile.to_dict(), "name": ""} for profile in (PROFILE, given.profile))
    if shape != (16, 112) or ours != theirs:
        raise UsageError(
            f"`init={init}` takes clips of {shape[0]} frames of {shape[1]} pixels with the profile "
            f"{given.profile.name!r}; expected weights for 16 frames of 112 pixels with the profile {PROFILE.name!r}, "
            "such as 'embedded' or what `c3dvideo pretrain` and `c3dvideo distil` write"
        )
    head = given.architecture["last_layer"]
    network = C3D(**{**given.architecture, "num_classes": len(EVERYDAY), "filler": "xavier"})
    network.load_state_dict(
        {name: array for name, array in given.state_dict().items() if not name.startswith(f"{head}.")}, strict=False
    )
    return network
