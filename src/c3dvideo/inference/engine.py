"""One network made ready to run on one device: uint8 clips in, named float32 activations out.

    engine = make_engine(network, layers=["fc6"], device="auto")
    features = engine(clips)["fc6"]            # clips: uint8 (N, 3, 16, 112, 112)

`Engine` is what callers see. There are four: `cpu.cpu_engine` (Winograd's minimal filtering, the default on a CPU),
`gpu.gpu_engine`, `direct_engine` (direct convolution on a CPU, on request and for 16-bit numbers), and `onnx_engine`
(an exported file).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch

from c3dvideo.choices import EngineName, Precision
from c3dvideo.errors import UsageError
from c3dvideo.inference.cpu.cpu_engine import CpuEngine
from c3dvideo.inference.devices import choose_engine, find_device
from c3dvideo.inference.direct_engine import DirectEngine
from c3dvideo.inference.engine_arrays import Activations, Array
from c3dvideo.inference.exported_network import ExportedNetwork
from c3dvideo.inference.gpu.gpu_engine import GpuEngine
from c3dvideo.inference.onnx_engine import OnnxEngine
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View


class Engine(Protocol):
    """A network on a device, with the mean of every view that clips show.

    name: how convolutions are computed. layers: the activations that are returned, in this order. views: what
    `view_index` counts. batch_clips: how many clips to submit at a time; other numbers work too. n_overflows: clips
    that overflowed in 16 bits and were computed again in fp32.

    The numbers of a clip do not depend on the clips beside it: not in any bit on a CPU; on a GPU every call of the
    network has the same shape, so that the same kernels run.
    """

    @property
    def name(self) -> Literal["direct", "winograd", "onnx"]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def views(self) -> Sequence[View]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def batch_clips(self) -> int: ...
    @property
    def n_overflows(self) -> int: ...

    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """Start on clips and return a function that waits for their activations, as of `__call__`.

        On a GPU, submit the next clips before waiting for these: copies then run beside the computing. On a CPU the
        work is done when this returns. The clips may be overwritten once it has returned, and clips in pinned memory
        once their activations are there: a GPU copies from where they are.
        """
        ...

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W), by layer.

        view_index: which of `views` each clip shows, int (N,); 0 by default. Raises UsageError for clips of another
        size or dtype, and WeightsError for a result that is not finite in fp32 either.
        """
        ...

    def description(self) -> dict[str, Any]:
        """Device, engine, precision, compiled kernels and clips per call, as JSON values."""
        ...


def make_engine(
    network: C3D,
    *,
    layers: Sequence[str],
    views: Sequence[View] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    engine: EngineName = "auto",
    shift_frames: int | None = None,
    batch_clips: int | None = None,
    deterministic: bool = False,
) -> Engine:
    """The engine of `network` on a device.

    views: the crops that clips show; None is the centre crop of the network's profile.
    device: "auto" is the first GPU or else the CPU; or "cpu", "cuda", "cuda:1". One engine drives one device;
        `devices.devices` lists them, for one process each.
    precision: "fp32" anywhere, "tf32" on a GPU; "bf16" and "fp16" take direct convolution.
    engine: how convolutions are computed; "auto" is winograd on a CPU in fp32 and direct elsewhere. "onnx" runs the
        file of an `ExportedNetwork`, which no other engine can compute.
    shift_frames: how many frames a clip starts after the one before it, where clips of one video overlap. Such pairs
        (their pixels are compared) share their first layers in the compiled engine, if the mean is constant in time.
    batch_clips: clips per call; None is a choice for the device.
    deterministic: the same bits in every run on one machine. Only a GPU needs it; see `GpuEngine`.

    Raises UsageError for an unknown layer, and for a device, precision or engine that is not there.
    """
    # Layers first: the first search for a GPU can take seconds, and an error about a misspelt name should not.
    layers = network.check_layers(layers)
    place = find_device(device)
    name = choose_engine(engine, place, precision)
    views = network.profile.views("centre") if views is None else tuple(views)
    if batch_clips is not None and batch_clips < 1:
        raise UsageError(f"`batch_clips=` is {batch_clips}; expected at least 1")
    if (name == "onnx") != isinstance(network, ExportedNetwork):
        raise UsageError(f"engine {name!r} does not compute a {type(network).__name__}: 'onnx' runs exported files")
    if isinstance(network, ExportedNetwork):
        return OnnxEngine(network, layers=layers, views=views, batch_clips=batch_clips)
    # Three classes and not one with a device inside: they share no step, since a CPU computes clip by clip in threads
    # and a GPU whole batches on a stream. Only these lines choose among them.
    if name == "winograd":
        return CpuEngine(network, layers=layers, views=views, shift_frames=shift_frames, batch_clips=batch_clips)
    if place.type == "cpu":
        return DirectEngine(network, layers=layers, views=views, precision=precision, batch_clips=batch_clips)
    return GpuEngine(
        network,
        layers=layers,
        views=views,
        device=place,
        precision=precision,
        batch_clips=batch_clips,
        deterministic=deterministic,
    )
