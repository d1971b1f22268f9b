"""An engine that convolves directly on a CPU, in any precision: the reference for the faster engines.

engine = DirectEngine(network, layers=["fc6"], views=network.profile.views(), precision="bf16")
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from c3dvideo.choices import Precision
from c3dvideo.inference.cpu.sharing import share_out
from c3dvideo.inference.direct import DTYPES, DirectNetwork
from c3dvideo.inference.engine_arrays import Activations, Array, check_clips, check_finite, check_views, no_activations
from c3dvideo.inference.scaling import Scaling
from c3dvideo.inference.switches import switches
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View

_MOST_CLIPS = 8  # at a time, each with 200 MB of activations


class DirectEngine:
    """The `Engine` of direct convolution on a CPU. Arguments and attributes are those of `engine.make_engine`."""

    name: Literal["direct"] = "direct"
    device = torch.device("cpu")

    def __init__(
        self,
        network: C3D,
        *,
        layers: Sequence[str],
        views: Sequence[View],
        precision: Precision,
        batch_clips: int | None = None,
    ) -> None:
        self.layers, self.views, self.precision = tuple(layers), tuple(views), precision
        self.batch_clips = batch_clips or min(_MOST_CLIPS, torch.get_num_threads())
        self.n_overflows = 0
        self._network = network
        self._scaling = Scaling.of(network, views, self.device)
        self._direct = DirectNetwork(network, layers, device=self.device, precision=precision)

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W), by layer."""
        return self.submit(clips, view_index)()

    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """A function that returns the activations, which are computed before this returns."""
        clips = check_clips(clips, self._network)
        if not len(clips):
            return lambda: no_activations(self._network, self.layers)
        views = check_views(view_index, len(clips))
        parts: list[Activations] = [{}] * len(clips)
        overflowed = np.zeros(len(clips), bool)

        def compute(clip: int) -> None:
            parts[clip], overflowed[clip] = self._compute(clips[clip : clip + 1], views[clip : clip + 1])

        # One clip per call and thread: PyTorch picks its kernels by the shape and by the number of threads, either of
        # which would change the last bits.
        with switches(self.precision):
            share_out(range(len(clips)), compute)
        self.n_overflows += int(overflowed.sum())
        return lambda: {name: np.concatenate([part[name] for part in parts]) for name in self.layers}

    def description(self) -> dict[str, Any]:
        """Device, engine, precision, compiled kernels and clips per call, as JSON values."""
        return {
            "device": "cpu",
            "engine": self.name,
            "kernels": False,
            "precision": self.precision,
            "batch_clips": 1,
            "shares_overlap": False,
        }

    @torch.inference_mode()
    def _compute(self, clip: Array, view: Array) -> tuple[Activations, bool]:
        """The activations of one clip, and whether it overflowed in 16 bits and was computed again."""
        x = self._scaling.apply(torch.from_numpy(clip), torch.from_numpy(view))
        found, finite = self._direct.compute(x)
        overflows = DTYPES[self.precision] != torch.float32 and not finite.all()
        if overflows:
            exact = DirectNetwork(self._network, self.layers, device=self.device, precision="fp32")
            found, finite = exact.compute(x)
        check_finite(finite, self.layers[-1])
        return {name: y.numpy() for name, y in found.items()}, overflows
