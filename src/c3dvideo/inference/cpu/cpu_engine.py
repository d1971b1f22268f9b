"""The engine of a CPU: Winograd convolution, compiled where there is a compiler, shared by clips that overlap.

engine = CpuEngine(network, layers=["fc6"], views=network.profile.views(), shift_frames=8)
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from c3dvideo.choices import Precision
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.chains import find_chains, join_clips
from c3dvideo.inference.cpu.overlap import longest_chain
from c3dvideo.inference.cpu.winograd_network import GROUP_CLIPS, WinogradNetwork
from c3dvideo.inference.engine_arrays import Activations, Array, check_clips, check_finite, check_views, no_activations
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View


class CpuEngine:
    """The `Engine` of a CPU in fp32. Arguments and attributes are those of `engine.make_engine`."""

    name: Literal["winograd"] = "winograd"
    device = torch.device("cpu")
    precision: Precision = "fp32"
    n_overflows = 0  # of 16-bit numbers, which are not used here

    def __init__(
        self,
        network: C3D,
        *,
        layers: Sequence[str],
        views: Sequence[View],
        shift_frames: int | None = None,
        batch_clips: int | None = None,
    ) -> None:
        self.layers, self.views = tuple(layers), tuple(views)
        self._network = network
        self._winograd = WinogradNetwork(network, layers, kernels=kernels.load())
        self._scaling = Scaling.of(network, views, self.device)
        # A mean that changes in time makes the same frame another input in each clip: nothing is left to share.
        constant_mean = self._scaling.means.shape[2] == 1
        shares = bool(shift_frames) and constant_mean and self._winograd.shares(shift_frames or 0)
        self._shift = (shift_frames or 0) if shares else 0
        self._fastest_batch = max(2 * GROUP_CLIPS, longest_chain(self._shift)) if shares else GROUP_CLIPS
        self.batch_clips = batch_clips or self._fastest_batch

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W), by layer."""
        return self.submit(clips, view_index)()

    @torch.inference_mode()
    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """A function that returns the activations, which are computed before this returns."""
        clips = check_clips(clips, self._network)
        if not len(clips):
            return lambda: no_activations(self._network, self.layers)
        pixels, views = torch.from_numpy(clips), check_views(view_index, len(clips))
        chains = find_chains(pixels, views, self._shift) if self._shift else [[clip] for clip in range(len(clips))]
        found = self._winograd.run(
            (self._input(pixels, views, chain), [self._shift * n for n in range(len(chain))]) for chain in chains
        )
        back = torch.tensor([clip for chain in chains for clip in chain]).argsort()
        for name, x in found.items():
            found[name] = x[back]
            check_finite(torch.isfinite(found[name].flatten(1)).all(1), name)
        return lambda: {name: x.numpy() for name, x in found.items()}

    def description(self) -> dict[str, Any]:
        """Device, engine, precision, compiled kernels and clips per call, as JSON values.

        The clips per call are those of the default, as the caller's choice does not change the features: files that
        hold this description stay equal, whatever the batch was.
        """
        return {
            "device": "cpu",
            "engine": self.name,
            "kernels": kernels.load() is not None,
            "precision": self.precision,
            "batch_clips": self._fastest_batch,
            "shares_overlap": self._shift > 0,
        }

    def _input(self, pixels: Tensor, views: Array, chain: Sequence[int]) -> Tensor:
        """Network input (3, T, H, W) from the first frame of a chain of clips to the last."""
        view = torch.from_numpy(views[chain[:1]])
        return self._scaling.apply(join_clips(pixels, chain, self._shift)[None], view)[0]
