"""The network on a CPU, faster than direct convolution: Winograd layers, fused pooling, channels-last activations.

    fast = WinogradNetwork(c3d(), ["fc6"], kernels=kernels.load())
    fc6 = fast(clips)["fc6"]                   # clips: float32 (N, 3, 16, 112, 112), mean subtracted

The steps of the network become stages. A stage computes one step, or a convolution together with its pooling. What
`winograd` cannot compute, such as a kernel with another depth in time, is left to the network's own layer.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, pairwise

import torch
from torch import Tensor, nn

from c3dvideo.inference.cpu.kernels import Kernels
from c3dvideo.inference.cpu.overlap import SHIFTS, SharedStart
from c3dvideo.inference.cpu.stages import (
    CompiledConv,
    CompiledFirst,
    CompiledLinear,
    DirectStage,
    FirstStage,
    LinearStage,
    Stage,
    WinogradStage,
    channels_first,
)
from c3dvideo.inference.cpu.winograd import takes
from c3dvideo.inference.switches import switches
from c3dvideo.network.c3d import C3D

GROUP_CLIPS = 8  # clips that go through the deep layers together


class WinogradNetwork:
    """The steps of a network up to the deepest of `layers`. Activations equal `network.activations` up to rounding.

    kernels: the compiled layers, or None for plain PyTorch. The numbers of a clip depend in no bit on the clips beside
    it, nor on how many there are.
    """

    def __init__(self, network: C3D, layers: Iterable[str], *, kernels: Kernels | None) -> None:
        self.layers = network.check_layers(layers)
        deepest = max(network.steps.index(name) for name in self.layers)
        stages = list(_stages(network, network.steps[: deepest + 1], self.layers, kernels))
        # The first stages compute one clip at a time: its large activations then stay in cache. The deep ones compute
        # eight: their weights are larger than the activations, and are read and transformed once for all eight.
        self._early = [stage for stage in stages if stage.name[4:5] in ("1", "2", "3")]
        self._late = stages[len(self._early) :]
        for part in (self._early, self._late):
            for stage, following in pairwise(part):
                if isinstance(following, CompiledConv):
                    stage.allocate = following.border.inside
        self._kernels = kernels
        self._clip_length: int = network.architecture["clip_length"]
        self._shared = SharedStart.of(self._early, self.layers, self._clip_length)

    def __call__(self, clips: Iterable[Tensor]) -> dict[str, Tensor]:
        """Activations (N, C, T, H, W) or (N, D), by layer, of clips, each float32 (3, T, H, W)."""
        return self.run((clip, (0,)) for clip in clips)

    def shares(self, shift: int) -> bool:
        """Whether clips of one stretch of video share work in `run`, if they start `shift` frames apart."""
        return self._shared is not None and shift in SHIFTS

    @torch.inference_mode()
    def run(self, stretches: Iterable[tuple[Tensor, Sequence[int]]]) -> dict[str, Tensor]:
        """As `__call__`, for stretches of video: frames (3, T, H, W), and the first frame of each clip in them.

        Work that clips share is done once. The bits are the same as if each clip had come alone.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        source = (early for frames, starts in stretches for early in self._start(frames, starts, found))
        with (
            switches("fp32"),
            self._kernels.lock if self._kernels else nullcontext(),
            _one_thread() if self._kernels else nullcontext(),
        ):
            # Cloned, as the stages write the next clip into the same memory.
            while group := [early.clone() for early in islice(source, GROUP_CLIPS)]:
                self._walk(torch.cat(group), self._late, found)
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _start(self, frames: Tensor, starts: Sequence[int], found: dict[str, list[Tensor]]) -> Iterator[Tensor]:
        """The result of the early stages for each clip of a stretch."""
        x = frames.permute(1, 2, 3, 0)
        if len(starts) == 1:
            first = starts[0]
            yield self._walk(x[None, first : first + self._clip_length], self._early, found)
            return
        assert self._shared is not None
        for clip in self._shared(x, starts):
            yield self._walk(clip, self._early[self._shared.n_stages :], found)

    def _walk(self, x: Tensor, stages: list[Stage], found: dict[str, list[Tensor]]) -> Tensor:
        for stage in stages:
            x = stage(x)
            if stage.name in found:
                # Copied, as the next clip overwrites this activation, which may lie inside a border.
                found[stage.name].append(
                    channels_first(x[..., : stage.channels]).clone(memory_format=torch.contiguous_format)
                )
        return x


def _stages(network: C3D, steps: Sequence[str], layers: Sequence[str], kernels: Kernels | None) -> Iterator[Stage]:
    """The stages that compute `steps`. Pooling is fused with the convolution before it, unless that one is wanted."""
    channels = 3
    rest = list(steps)
    while rest:
        name = rest.pop(0)
        layer = network.head if name == "fc8" else getattr(network, name, None)
        stage: Stage
        pool = rest[0] if rest and name not in layers and rest[0].startswith("pool") else None
        # Winograd tiles are pooled over 2x2x2, which pool1 (1x2x2) does not do: conv1a has stages of its own.
        if takes(layer) and name == "conv1a" and pool == "pool1":
            stage = CompiledFirst(rest.pop(0), layer, kernels) if kernels else FirstStage(rest.pop(0), layer)
        elif takes(layer) and pool != "pool1":
            rule = network.architecture["pool5"] if pool == "pool5" else "floor"
            # Windows cut at the edge (ceil) exist in the compiled layers only, padded ones (symmetric) in neither.
            joins = pool is not None and (rule == "floor" or (rule == "ceil" and kernels is not None))
            last = rest.pop(0) if joins else name
            stage = CompiledConv(last, layer, kernels, ceil=rule == "ceil") if kernels else WinogradStage(last, layer)
        elif isinstance(layer, nn.Linear):
            stage = CompiledLinear(name, layer, channels, kernels) if kernels else LinearStage(name, layer, channels)
        else:
            stage = DirectStage(network, name, channels)
        channels = stage.channels
        yield stage


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread in this block.

    Between compiled layers PyTorch only copies. With several threads, each copy ends when the last thread has had its
    turn, which on a busy machine takes longer than the copy.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
