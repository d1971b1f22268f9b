"""The arrays of a weights file under our names, as every reader of a format returns them.

    found = Found(layout="state dict", arrays=arrays, profile=CAFFE)

Our axes: convolution weights (out, in, T, H, W), not flipped; fully connected weights (out, in), with the inputs of fc6
in the order C, T, H, W of pool5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from c3dvideo.choices import Pool5
from c3dvideo.video.preprocess import Profile

Array = np.ndarray[Any, np.dtype[Any]]
CONVOLUTIONS = {
    8: ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"),
    5: ("conv1a", "conv2a", "conv3a", "conv4a", "conv5a"),
}
DENSE = ("fc6", "fc7", "fc8")
ASSUMED = (
    "the file does not say how its pixels were prepared: the release's profile was assumed (`profile=` names another)"
)
PORT = (
    "profile and pool5 rule are this project's; the network was trained by the release, whose features need "
    "profile caffe and the mean volume as `mean=`"
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Arrays of a recognised file under our names, and its project's preprocessing.

    pool5: the rule, if the file states it. plain: the last layer is named `out`, as in `c3d_plain`.
    notes: one sentence per assumption and per list of unused arrays. source: the file, for messages.
    """

    layout: str
    arrays: dict[str, Array]
    profile: Profile
    pool5: Pool5 | None = None
    plain: bool = False
    notes: tuple[str, ...] = ()
    source: str = ""


def unused(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    return (f"not used: {', '.join(names)}",) if names else ()


def numpy_array(value: Any) -> Array:
    """A numpy array of a tensor (of any floating type) or of any array-like value."""
    return np.asarray(value.detach().float().numpy() if hasattr(value, "detach") else value)
