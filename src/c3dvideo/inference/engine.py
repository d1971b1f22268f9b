"""One network made ready to run on one device: uint8 clips in, named float32 activations out.

    engine = Engine(network, layers=["fc6"], device="auto")
    features = engine(clips)["fc6"]            # clips: uint8 (N, 3, 16, 112, 112)

On a CPU the network runs by Winograd's minimal filtering (`cpu`, `winograd`), compiled on first use where there is a
compiler (`kernels`); on a GPU, and on request, by direct convolution (`direct`). The choice is a rule and not a
measurement, so that a run that is stopped and started again goes on with the same numbers.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from c3dvideo.choices import EngineName, Precision
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.overlap import longest_chain
from c3dvideo.inference.cpu.winograd_network import GROUP_CLIPS, CpuNetwork
from c3dvideo.inference.direct import DTYPES, DirectNetwork
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View, input_mean

Array = np.ndarray[Any, Any]
Activations = dict[str, Array]

_MOST_GPU_CLIPS = 64


class Engine:
    """A network on a device, with the mean of every view it will be fed.

    device: "auto" is the first GPU when there is one, else the CPU; or "cpu", "cuda", "cuda:1". One engine drives one
        device; `devices` lists them, for one process each.
    precision: "fp32" anywhere, "tf32" on a GPU; "bf16" and "fp16" take the direct engine. A clip that overflows in
        these is computed again in fp32, and `n_overflows` counts it.
    engine: how convolutions are computed; "auto" is winograd on a CPU in fp32 and direct elsewhere.
    shift_frames: how many of its frames a clip starts after the one before it, where clips of one video overlap. Pairs
        that do (their pixels are compared) share their first layers in the compiled engine, if the mean allows it.

    The numbers of a clip do not depend on the clips beside it: not in any bit on a CPU; on a GPU every call of the
    network has the same shape, so that the same kernels run. `batch_clips` is the number of clips it computes at once.
    Raises UsageError for a device, precision or engine that is not there, and WeightsError for a result that is not
    finite in fp32 either.
    """

    def __init__(
        self,
        network: C3D,
        *,
        layers: Sequence[str],
        views: Sequence[View] | None = None,
        device: str = "auto",
        precision: Precision = "fp32",
        engine: EngineName = "auto",
        shift_frames: int | None = None,
    ) -> None:
        self.layers = network.check_layers(layers)
        self.device = find_device(device)
        self.precision = precision
        self.engine = choose_engine(engine, self.device, precision)
        self.views = tuple(views) if views is not None else network.profile.views("centre")
        self.n_overflows = 0
        self._network = network
        self._direct: dict[str, DirectNetwork] = {}
        means = [input_mean(network.profile, network.mean_volume, view) for view in self.views]
        self._means = torch.from_numpy(np.stack(means)).to(self.device)
        self._shift = 0
        self._std = torch.tensor(network.profile.std, device=self.device).view(3, 1, 1, 1)
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self.engine == "winograd":
            self._winograd = CpuNetwork(network, self.layers, kernels=kernels.load())
            self.batch_clips = GROUP_CLIPS
            constant = bool((self._means == self._means[:, :, :1]).all())
            if constant and shift_frames and self._winograd.shares(shift_frames):
                self._shift = shift_frames
                self.batch_clips = max(2 * GROUP_CLIPS, longest_chain(shift_frames))
        else:
            self._direct[precision] = self._direct_network(precision)
            self.batch_clips = _gpu_batch(network, self.device, precision) if self._copies else 1

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W); view_index (N,) says which view each shows."""
        return self.submit(clips, view_index)()

    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """Start on clips and return a function that waits for their activations, as of `__call__`.

        On a GPU, start on the next clips before waiting for these: copies then run beside the computing. On a CPU all
        is done when this returns. The clips may be overwritten once it has returned.
        """
        architecture = self._network.architecture
        size = architecture["crop_size"]
        expected = (3, architecture["clip_length"], size, size)
        if clips.dtype != np.uint8 or clips.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise UsageError(f"clips are {clips.dtype} of shape {clips.shape}; this network takes uint8 (N, {wanted})")
        clips = np.require(clips, requirements=["C", "W"])
        if not len(clips):
            return lambda: {name: np.zeros((0, *self._network.layer_shape(name)), np.float32) for name in self.layers}
        index = np.zeros(len(clips), np.int64) if view_index is None else np.asarray(view_index, np.int64)
        if self.engine == "winograd":
            return self._run_winograd(torch.from_numpy(clips), index)
        starts = range(0, len(clips), self.batch_clips)
        parts = [self._start(clips[at : at + self.batch_clips], index[at : at + self.batch_clips]) for at in starts]

        def wait() -> Activations:
            done = [part() for part in parts]
            return {name: np.concatenate([each[name] for each in done]) for name in self.layers}

        return wait

    def description(self) -> dict[str, Any]:
        """What was chosen: device, engine, precision, compiled kernels and clips a call, as JSON values."""
        return {
            "device": str(self.device),
            "engine": self.engine,
            "kernels": self.engine == "winograd" and kernels.load() is not None,
            "precision": self.precision,
            "batch_clips": self.batch_clips,
            "shares_overlap": self._shift > 0,
        }

    def prepare(self, pixels: Tensor, view_index: Tensor) -> Tensor:
        """Network input, float32 (N, 3, T, H, W), of uint8 pixels of that shape on the engine's device."""
        profile = self._network.profile
        x = pixels.float()
        if profile.scale != 1:
            x *= profile.scale
        means = self._means if len(self._means) == 1 else self._means[view_index]
        x -= means if means.shape[2] in (1, x.shape[2]) else means[:, :, :1]
        if set(profile.std) != {1.0}:
            x /= self._std
        return x

    @torch.inference_mode()
    def _run_winograd(self, pixels: Tensor, index: Array) -> Callable[[], Activations]:
        views = torch.from_numpy(index)
        chains = self._chains(pixels, index)
        found = self._winograd.run(
            (
                self.prepare(self._stretch(pixels, chain)[None], views[chain[:1]])[0],
                [self._shift * n for n in range(len(chain))],
            )
            for chain in chains
        )
        back = torch.tensor([clip for chain in chains for clip in chain]).argsort()
        for name, x in found.items():
            found[name] = x[back]
            _check_finite(torch.isfinite(found[name].flatten(1)).all(1), name)
        return lambda: {name: x.numpy() for name, x in found.items()}

    def _chains(self, pixels: Tensor, index: Array) -> list[list[int]]:
        """Clips by number, those of one view that follow each other `shift_frames` apart in one list."""
        if not self._shift:
            return [[clip] for clip in range(len(pixels))]
        chains: list[list[int]] = []
        waiting: dict[tuple[int, bytes], list[int]] = {}  # by the view and a row of the frame that should come first
        middle = pixels.shape[3] // 2
        for clip, view in enumerate(index.tolist()):
            chain = waiting.pop((view, pixels[clip, :, 0, middle].numpy().tobytes()), [])
            if not 0 < len(chain) < longest_chain(self._shift) or not torch.equal(
                pixels[chain[-1], :, self._shift :], pixels[clip, :, : -self._shift]
            ):
                chain = []
                chains.append(chain)
            chain.append(clip)
            waiting[view, pixels[clip, :, self._shift, middle].numpy().tobytes()] = chain
        return chains

    def _stretch(self, pixels: Tensor, chain: Sequence[int]) -> Tensor:
        """The frames (3, T, H, W) from the first of chained clips to the last."""
        return torch.cat([pixels[chain[0]], *(pixels[clip, :, -self._shift :] for clip in chain[1:])], 1)

    @torch.inference_mode()
    def _start(self, clips: Array, index: Array) -> Callable[[], Activations]:
        """Send at most `batch_clips` clips, filled up with zeros to exactly that many."""
        on_gpu = self._copies is not None
        with self._on_device():
            host = torch.empty((self.batch_clips, *clips.shape[1:]), dtype=torch.uint8, pin_memory=on_gpu)
            host[: len(clips)] = torch.from_numpy(clips)
            host[len(clips) :] = 0
            views = torch.zeros(self.batch_clips, dtype=torch.int64)
            views[: len(index)] = torch.from_numpy(index)
            pixels, views = self._send(host), self._send(views)
            outputs, finite = self._direct[self.precision](self.prepare(pixels, views))
            found = {name: _receive(x[: len(clips)], pinned=on_gpu) for name, x in outputs.items()}
            finite = _receive(finite[: len(clips)], pinned=on_gpu)
            done = torch.cuda.Event(blocking=True) if on_gpu else None  # type: ignore[no-untyped-call]
            if done is not None:
                done.record()

        def wait() -> Activations:
            if done is not None:
                done.synchronize()
            if not finite.all():
                self._repair(found, finite, pixels, views)
            return {name: x.numpy() for name, x in found.items()}

        return wait

    @torch.inference_mode()
    def _repair(self, found: dict[str, Tensor], finite: Tensor, pixels: Tensor, views: Tensor) -> None:
        """Replace the activations of clips that are not finite by those of fp32."""
        if DTYPES[self.precision] != torch.float32:
            self.n_overflows += int((~finite).sum())
            if "fp32" not in self._direct:
                self._direct["fp32"] = self._direct_network("fp32")
            with self._on_device():
                outputs, again = self._direct["fp32"](self.prepare(pixels, views))
            for name, x in found.items():
                x[~finite] = outputs[name][: len(finite)].cpu()[~finite]
            finite = again[: len(finite)].cpu()
        _check_finite(finite, self.layers[-1])

    def _direct_network(self, precision: Precision) -> DirectNetwork:
        return DirectNetwork(self._network, self.layers, device=self.device, precision=precision)

    def _on_device(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self._copies else nullcontext()

    def _send(self, x: Tensor) -> Tensor:
        """`x` on the device; on a GPU copied by a stream of its own, for which the computing waits."""
        if self._copies is None:
            return x
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            sent = x.to(self.device, non_blocking=True)
        computing.wait_stream(self._copies)
        sent.record_stream(computing)
        return sent


def devices(which: str = "auto") -> list[str]:
    """The devices that `which` names, for one process each: "cuda" and "auto" stand for every GPU, commas separate."""
    n_gpus = torch.cuda.device_count()
    every = [f"cuda:{index}" for index in range(n_gpus)]
    if which == "auto":
        return every or ["cpu"]
    names = [name.strip() for name in which.split(",")]
    return [str(find_device(name)) for given in names for name in (every if given == "cuda" and every else [given])]


def find_device(name: str) -> torch.device:
    """The device of that name; UsageError when there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is not known; take auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; take auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not there: PyTorch sees {torch.cuda.device_count()} GPUs")
    return device


def choose_engine(name: EngineName, device: torch.device, precision: Precision) -> Literal["direct", "winograd"]:
    """How convolutions are computed there; UsageError for what cannot be had."""
    if precision not in get_args(Precision) or name not in get_args(EngineName):
        raise UsageError(
            f"precision {precision!r} with engine {name!r}: precisions are {', '.join(get_args(Precision))}, "
            f"engines {', '.join(get_args(EngineName))}"
        )
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision 'tf32' is a mode of NVIDIA GPUs; take 'fp32' on the CPU")
    fits = device.type == "cpu" and precision == "fp32"
    if name == "winograd" and not fits:
        raise UsageError(f"engine 'winograd' runs on the CPU in fp32, not on {device} in {precision}; take 'direct'")
    return "winograd" if fits and name != "direct" else "direct"


def _gpu_batch(network: C3D, device: torch.device, precision: Precision) -> int:
    """Clips a call: the largest power of two up to 64 that half of the free memory holds."""
    largest = max(int(np.prod(network.layer_shape(name))) for name in network.steps if name.startswith("conv"))
    a_clip = 8 * largest * DTYPES[precision].itemsize
    free, _ = torch.cuda.mem_get_info(device)
    fitting = max(1, free // 2 // a_clip)
    return min(_MOST_GPU_CLIPS, 1 << (int(fitting).bit_length() - 1))


def _receive(x: Tensor, *, pinned: bool) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=pinned).copy_(x, non_blocking=pinned)


def _check_finite(finite: Tensor, layer: str) -> None:
    if not finite.all():
        raise WeightsError(
            f"{layer} is not finite for clip {int((~finite).nonzero()[0])} of a batch, in fp32: the weights or mean "
            "hold values that no training leaves; look at them with `c3dvideo weights check`"
        )
