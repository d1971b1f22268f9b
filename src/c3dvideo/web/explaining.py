"""Which pixels of one clip speak for a class: Grad-CAM beside the frames, computed in a process of its own.

The picture has the layout of a strip of moving frames: two columns, the clip and its map, and eight rows.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from c3dvideo.errors import UsageError
from c3dvideo.explain.gradcam import grad_cam
from c3dvideo.explain.pictures import overlay, rgb_clip
from c3dvideo.probing.probe import Probe
from c3dvideo.video.reader import Clip, read_clips
from c3dvideo.video.seeking import TOLERANCE_SECONDS, sought_clip
from c3dvideo.video.viewing import FOLDER_FPS
from c3dvideo.web.analysis import extractor_like

_ROWS, _CELL = 8, 160


def explain_clip(
    path: str,
    *,
    weights: str | None,
    settings: dict[str, Any],
    layer: str,
    probe: str | None,
    label: str | None,
    start_seconds: float,
) -> bytes:
    """A JPEG of the clip at `start_seconds`: its frames and, beside them, the evidence for a class.

    label: a class of the probe, or of the network without one; None is the best class of the clip. Raises UsageError
    for another class, for other weights than those of the index, and for a time without a clip.
    """
    extractor = extractor_like(settings, weights, layer)
    network = extractor.network
    clip = sought_clip(path, start_seconds, plan=extractor.plan, profile=network.profile)
    if clip is None:
        reader = read_clips(path, plan=extractor.plan, profile=network.profile, damaged="keep")
        clip = next((clip for clip in reader if _seconds(clip) >= start_seconds - TOLERANCE_SECONDS), None)
    if clip is None:
        raise UsageError(f"the video has no clip at {start_seconds:g} seconds")
    maps = grad_cam(network, clip.pixels, target=label, probe=None if probe is None else Probe.load(probe))
    frames = rgb_clip(clip.pixels[0], network.profile.channel_order)
    both = np.concatenate([frames, overlay(frames, maps[0])], axis=2)
    chosen = both[np.linspace(0, len(both) - 1, _ROWS).round().astype(int)]
    sheet = Image.fromarray(np.concatenate(list(chosen)))
    stream = BytesIO()
    sheet.resize((2 * _CELL, _ROWS * _CELL), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _seconds(clip: Clip) -> float:
    """When a clip begins; a frame folder is shown at FOLDER_FPS."""
    return clip.start_frame / FOLDER_FPS if np.isnan(clip.start_seconds) else clip.start_seconds
