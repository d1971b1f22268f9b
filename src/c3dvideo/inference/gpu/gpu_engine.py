"""The engine of a GPU: batches of one size, copied beside the computing, repaired in fp32 where 16 bits overflow.

engine = GpuEngine(network, layers=["fc6"], views=views, device=torch.device("cuda"), precision="bf16")
wait = engine.submit(clips)                # starts the copies and the kernels; wait() returns the activations
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from c3dvideo.choices import Precision
from c3dvideo.errors import UsageError
from c3dvideo.inference.direct import DTYPES
from c3dvideo.inference.engine_arrays import Activations, Array, check_clips, check_finite, check_views, no_activations
from c3dvideo.inference.gpu.fused_network import DeviceNetwork, network_on_gpu, why_unfused
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View

_MOST_CLIPS = 64
_FIXED_CLIPS = 32  # of a deterministic engine, which must not look at how much memory is free


class GpuEngine:
    """The `Engine` of one GPU. Arguments and attributes are those of `engine.make_engine`.

    `batch_clips` halves when the memory of the device runs out, with one warning; UsageError when one clip is too much.
    deterministic: the same bits in every run on one kind of GPU. The number of clips per call is then fixed and never
    halved, because another number could take other kernels.
    `busy_seconds` is what the batches that have been waited for took on the device, by its own clock.
    """

    name: Literal["direct"] = "direct"

    def __init__(
        self,
        network: C3D,
        *,
        layers: Sequence[str],
        views: Sequence[View],
        device: torch.device,
        precision: Precision,
        batch_clips: int | None = None,
        deterministic: bool = False,
    ) -> None:
        self.layers, self.views, self.device, self.precision = tuple(layers), tuple(views), device, precision
        self._deterministic = deterministic
        self.n_overflows, self.busy_seconds = 0, 0.0
        self._network = network
        self._scaling = Scaling.of(network, views, device)
        self._copies = HostCopies(device)
        self._networks = {precision: self._network_in(precision)}
        self._has_halved = False
        if batch_clips is None:
            batch_clips = _FIXED_CLIPS if deterministic else fitting_batch(network, device, precision)
        self.batch_clips = batch_clips

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W), by layer."""
        return self.submit(clips, view_index)()

    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """Start on clips and return a function that waits for their activations."""
        clips = check_clips(clips, self._network)
        if not len(clips):
            return lambda: no_activations(self._network, self.layers)
        views = check_views(view_index, len(clips))
        parts: list[Callable[[], Activations]] = []
        at = 0
        while at < len(clips):
            size = self.batch_clips
            try:
                parts.append(self._start(clips[at : at + size], views[at : at + size], size))
                at += size
            except torch.OutOfMemoryError as error:
                self._halve_batch(error)

        def wait() -> Activations:
            done = [part() for part in parts]
            return {name: np.concatenate([each[name] for each in done]) for name in self.layers}

        return wait

    def description(self) -> dict[str, Any]:
        """Device, engine, precision, compiled kernels and clips per call, as JSON values."""
        return {
            "device": str(self.device),
            "engine": self.name,
            "kernels": not why_unfused(self.device),
            "precision": self.precision,
            "batch_clips": self.batch_clips,
            "shares_overlap": False,
            **({"deterministic": True} if self._deterministic else {}),
        }

    def _network_in(self, precision: Precision) -> DeviceNetwork:
        try:
            return network_on_gpu(
                self._network,
                self.layers,
                device=self.device,
                precision=precision,
                scaling=self._scaling,
                deterministic=self._deterministic,
            )
        except torch.OutOfMemoryError as error:
            raise self._no_memory("the weights", precision) from error

    @torch.inference_mode()
    def _start(self, clips: Array, views: Array, size: int) -> Callable[[], Activations]:
        """Start on at most `size` clips, filled up with zeros to that many, and return a function that waits.

        A batch of another size could take other kernels, and so change the last bits of a clip.
        """
        n_clips = len(clips)
        with self._copies.on_device():
            host = torch.from_numpy(clips)
            if n_clips < size or not host.is_pinned():
                host = self._copies.empty((size, *clips.shape[1:]), torch.uint8)
                host[:n_clips] = torch.from_numpy(clips)
                host[n_clips:] = 0
            host_views = self._copies.empty((size,), torch.int64)
            host_views[:n_clips] = torch.from_numpy(views)
            host_views[n_clips:] = 0
            pixels, device_views = self._copies.send(host), self._copies.send(host_views)
            finished = self._copies.timer()
            outputs, all_finite = self._networks[self.precision](pixels, device_views)
            found = {name: self._copies.receive(x[:n_clips]) for name, x in outputs.items()}
            finite = self._copies.receive(all_finite[:n_clips])
            seconds = finished()

        def wait() -> Activations:
            self.busy_seconds += seconds()
            if not finite.all():
                self._repair(found, finite, pixels, device_views)
            return {name: x.numpy() for name, x in found.items()}

        return wait

    @torch.inference_mode()
    def _repair(self, found: dict[str, Tensor], finite: Tensor, pixels: Tensor, views: Tensor) -> None:
        """Replace the activations of clips that are not finite by those of fp32."""
        if DTYPES[self.precision] != torch.float32:
            self.n_overflows += int((~finite).sum())
            if "fp32" not in self._networks:
                self._networks["fp32"] = self._network_in("fp32")
            for clip in (~finite).nonzero().flatten().tolist():
                # One clip per call, as fp32 activations of a whole batch may not fit in memory.
                outputs, again = self._compute_one(pixels[clip : clip + 1], views[clip : clip + 1])
                for name, x in found.items():
                    x[clip] = outputs[name][0].cpu()
                finite[clip] = again[0].cpu()
        check_finite(finite, self.layers[-1])

    def _compute_one(self, pixels: Tensor, views: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        try:
            with self._copies.on_device():
                return self._networks["fp32"](pixels, views)
        except torch.OutOfMemoryError as error:
            raise self._no_memory("one clip", "fp32") from error

    def _no_memory(self, what: str, precision: Precision) -> UsageError:
        return UsageError(
            f"{self.device} has no memory for {what} in {precision}; end what else uses it, or choose another "
            "`device=` or `precision=`"
        )

    def _halve_batch(self, error: torch.OutOfMemoryError) -> None:
        if self.batch_clips == 1:
            raise self._no_memory("one clip", self.precision) from error
        if self._deterministic:
            raise UsageError(
                f"{self.device} has no memory for {self.batch_clips} clips per call in {self.precision}; choose a "
                "smaller `batch_size=`, and the same one in every run whose features have to be equal to the bit"
            ) from error
        before, self.batch_clips = self.batch_clips, self.batch_clips // 2
        torch.cuda.empty_cache()  # blocks of the larger batch have other sizes than the smaller one needs
        if not self._has_halved:
            self._has_halved = True
            warnings.warn(
                f"{self.device} ran out of memory with {before} clips per call; continuing with {self.batch_clips}, "
                "and with fewer if that is needed",
                RuntimeWarning,
                stacklevel=4,
            )


class HostCopies:
    """Copies between pinned memory of the host and one GPU, on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def on_device(self) -> AbstractContextManager[Any]:
        """A block in which kernels run on this GPU."""
        return torch.cuda.device(self._device)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Pinned memory: only from there can a copy run beside the computing."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def send(self, x: Tensor) -> Tensor:
        """`x` on the GPU, for which the computing waits."""
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            sent = x.to(self._device, non_blocking=True)
        computing.wait_stream(self._stream)
        # The memory belongs to the copying stream, which would otherwise reuse it while the computing still reads.
        sent.record_stream(computing)
        return sent

    def receive(self, x: Tensor) -> Tensor:
        """`x` in pinned memory, once the timer has been waited for."""
        return self.empty(tuple(x.shape), x.dtype).copy_(x, non_blocking=True)

    def timer(self) -> Callable[[], Callable[[], float]]:
        """Start timing the computing. Returns a function that stops, and returns one that waits and says the seconds.

        The time begins when the copies that the computing waits for are done.
        """
        # A blocking event sleeps; a spinning wait would take a core from the decoders.
        before, after = (torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()

        def stop() -> Callable[[], float]:
            after.record()

            def seconds() -> float:
                after.synchronize()
                return float(before.elapsed_time(after)) / 1000

            return seconds

        return stop


def fitting_batch(network: C3D, device: torch.device, precision: Precision) -> int:
    """Clips per call: the largest power of two up to 64 that half of the free memory of a GPU holds."""
    largest = max(int(np.prod(network.layer_shape(name))) for name in network.steps if name.startswith("conv"))
    bytes_per_clip = 8 * largest * DTYPES[precision].itemsize
    free, _ = torch.cuda.mem_get_info(device)
    fitting = max(1, free // 2 // bytes_per_clip)
    return min(_MOST_CLIPS, 1 << (int(fitting).bit_length() - 1))
