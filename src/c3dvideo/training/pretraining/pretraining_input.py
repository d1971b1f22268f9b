"""The input of a pre-trained network: its profile, and clips with the profile's mean subtracted.

x = network_input(clips)                # float (N, 3, T, H, W)
"""

import torch
from torch import Tensor

from c3dvideo.video.preprocess import Profile

PROFILE = Profile(name="embedded", channel_order="rgb", mean=(110.0, 105.0, 100.0))


def network_input(clips: Tensor) -> Tensor:
    """Float clips with the profile's mean subtracted, from (N, 3, T, H, W) in RGB, 0..255."""
    return clips.float() - torch.tensor(PROFILE.mean, device=clips.device).view(1, 3, 1, 1, 1)
