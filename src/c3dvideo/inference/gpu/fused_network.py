"""The network on an NVIDIA GPU with fused kernels: cuDNN convolves, Triton does what lies between the convolutions.

    network = FusedNetwork(c3d(), ["fc6"], device=torch.device("cuda"), precision="bf16", scaling=scaling)
    outputs, is_finite = network(pixels, view_index)       # pixels: uint8 (N, 3, 16, 112, 112) on the device

A convolution writes its sums once. One kernel reads them, takes the maximum over each pooling window, adds the bias,
applies ReLU and checks for infinities. conv1a has three input channels, too few for cuDNN's tensor core kernels: it and
pool1 are one kernel. fc6 reads pool5 in channels-last order: the columns of its weight are permuted once, instead of
every activation. The numbers are those of `DirectNetwork` up to rounding; `TOLERANCES` bounds the relative L2 distance.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.choices import Precision
from c3dvideo.inference.direct import DTYPES, DirectNetwork, pad_first
from c3dvideo.inference.scaling import Scaling
from c3dvideo.inference.switches import switches
from c3dvideo.network.c3d import C3D

# From uint8 pixels (N, 3, T, H, W) and views (N,) to float32 activations, and for each clip whether all were finite.
DeviceNetwork = Callable[[Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]

TOLERANCES = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2, "fp16": 2e-3}
_OLDEST_GPU = (8, 0)  # Ampere: bfloat16, TF32, and maxima that keep NaN


@cache
def why_unfused(device: torch.device) -> str:
    """Why the kernels cannot run on `device`, or "". Warns once when that can be mended."""
    if device.type != "cuda" or torch.version.cuda is None or torch.cuda.get_device_capability(device) < _OLDEST_GPU:
        return "fused kernels need an NVIDIA GPU of the Ampere generation or later"
    if find_spec("triton") is None:
        reason = "Triton is not installed; `pip install triton` in the version that this PyTorch names"
    else:
        from c3dvideo.inference.gpu.fused_kernels import pool_bias_relu

        try:
            with torch.cuda.device(device):
                x, bias = torch.zeros(1, 8, 1, 1, 1, device=device), torch.zeros(8, device=device)
                pool_bias_relu(x, bias, torch.ones(1, dtype=torch.uint8, device=device))
            return ""
        # Without a C compiler or Python's headers, Triton raises whatever its build step ran into.
        except Exception as error:
            reason = f"Triton cannot build a kernel: {type(error).__name__}: {error}"
    warnings.warn(f"the network runs on {device} without fused kernels: {reason}", RuntimeWarning, stacklevel=2)
    return reason


def network_on_gpu(
    network: C3D,
    layers: Iterable[str],
    *,
    device: torch.device,
    precision: Precision,
    scaling: Scaling,
    deterministic: bool = False,
) -> DeviceNetwork:
    """The network with fused kernels where they run, else as PyTorch computes it.

    deterministic: cuDNN computes alike in every run. The fused kernels always do: their tiles are fixed, and no two
    threads add to one number.
    """
    if not why_unfused(device):
        return FusedNetwork(
            network, layers, device=device, precision=precision, scaling=scaling, deterministic=deterministic
        )
    direct = DirectNetwork(network, layers, device=device, precision=precision, deterministic=deterministic)
    return lambda pixels, views: direct(scaling.apply(pixels, views))


class FusedNetwork:
    """The steps of a network up to the deepest of `layers`, in one precision on one device.

    precision: as of `DirectNetwork`. "fp32" is IEEE float32 and deterministic; conv1a is then cuDNN's too.
    scaling: how uint8 clips become network input; without it, clips are float32 network input.
    A convolution among `layers` is not fused with the pooling after it, which costs time.
    """

    def __init__(
        self,
        network: C3D,
        layers: Iterable[str],
        *,
        device: torch.device,
        precision: Precision,
        scaling: Scaling | None = None,
        deterministic: bool = False,
    ) -> None:
        # Imported here, because Triton comes with PyTorch's CUDA builds only.
        from c3dvideo.inference.gpu import fused_kernels

        self._kernels = fused_kernels
        self.layers = network.check_layers(layers)
        self.device, self.precision, self._deterministic = device, precision, deterministic
        self._scaling = scaling
        self._steps = network.steps[: max(map(network.steps.index, self.layers)) + 1]
        self._biases = {
            name: layer.get_parameter("bias").detach().to(device, torch.float32)
            for name, layer in network.named_layers()
        }
        pooled = network.layer_shape("pool5")
        network = deepcopy(network).requires_grad_(False).to(device=device, dtype=DTYPES[precision])
        first = network.get_submodule("conv1a").get_parameter("weight")
        fits = precision != "fp32" and fused_kernels.conv1_fits(first, device)
        self._filters: Tensor | None = None
        if fits and self._steps[1:2] == ("pool1",) and "conv1a" not in self.layers:
            self._filters = fused_kernels.conv1_filters(first, round_to_tf32=precision == "tf32")
        # cuDNN's tensor core kernels read 8 channels at once, its float32 kernels 4.
        pad_first(network, 4 if precision == "fp32" else 8)
        by_position = network.fc6.weight.view(-1, *pooled).permute(0, 2, 3, 4, 1).flatten(1)
        network.fc6.weight = nn.Parameter(by_position, requires_grad=False)
        self._network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, clips: Tensor, view_index: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Float32 activations of clips (N, 3, T, H, W), and for each clip whether all numbers on the way, after ReLU
        and pooling, were finite. uint8 clips are scaled by their view; float32 clips are network input already."""
        finite = torch.ones(len(clips), dtype=torch.uint8, device=self.device)
        found: dict[str, Tensor] = {}
        with switches(self.precision, deterministic=self._deterministic):
            for name, x in self._walk(clips, view_index, finite):
                if name in self.layers:
                    found[name] = x.float().contiguous()
        return {name: found[name] for name in self.layers}, finite.bool()

    def _walk(self, clips: Tensor, view_index: Tensor | None, finite: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every step in turn with its activation, except convolutions that are fused with the pooling after them."""
        steps = list(self._steps)
        if self._filters is None:
            x = self._channels_last(clips, view_index)
        else:
            x = self._conv1_pool1(clips, view_index, finite)
            yield "pool1", x
            del steps[:2]
        while steps:
            name = steps.pop(0)
            if name.startswith("conv"):
                is_fused = bool(steps) and steps[0].startswith("pool") and name not in self.layers
                pool = self._network.get_submodule(steps[0]) if is_fused else None
                convolution = self._network.get_submodule(name)
                x = functional.conv3d(x, convolution.weight, padding=convolution.padding)
                x = self._kernels.pool_bias_relu(x, self._biases[name], finite, pool=pool)
                name = steps.pop(0) if is_fused else name
            elif name == "fc6":
                x = self._network.step(name, x.permute(0, 2, 3, 4, 1))
            else:
                x = self._network.step(name, x)
            if x.ndim == 2:
                finite &= x.isfinite().all(1)
            yield name, x

    def _conv1_pool1(self, clips: Tensor, view_index: Tensor | None, finite: Tensor) -> Tensor:
        assert self._filters is not None
        volume = self._kernels.prepare_clips(
            clips,
            dtype=self._filters.dtype,
            scaling=self._scaling if clips.dtype == torch.uint8 else None,
            view_index=view_index,
            round_to_tf32=self.precision == "tf32",
        )
        return self._kernels.conv1_pool1(volume, self._filters, self._biases["conv1a"], finite)

    def _channels_last(self, clips: Tensor, view_index: Tensor | None) -> Tensor:
        """Network input for cuDNN, with zeros in the channels that `pad_first` added to conv1a."""
        if clips.dtype == torch.uint8 and self._scaling is not None:
            clips = self._scaling.apply(clips, view_index)
        weight = self._network.get_submodule("conv1a").get_parameter("weight")
        missing = weight.shape[1] - clips.shape[1]
        padded = functional.pad(clips.to(weight.dtype), (0, 0, 0, 0, 0, 0, 0, missing))
        return padded.contiguous(memory_format=torch.channels_last_3d)
