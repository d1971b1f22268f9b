"""The network by direct convolution with PyTorch's own layers, in any precision, whole batches at a time.

    direct = DirectNetwork(c3d(), ["fc6"], device=torch.device("cuda"), precision="bf16")
    outputs, is_finite = direct(clips)         # clips: float32 (N, 3, 16, 112, 112) on the device, mean subtracted

On a GPU and in bf16 the activations are channels-last in memory, the input of conv1a is padded to 8 channels for the
matrix units, and pooling comes before the bias and ReLU of its convolution: the same numbers for a quarter or an eighth
of the memory traffic of these two.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from c3dvideo.choices import Precision
from c3dvideo.inference.switches import switches
from c3dvideo.network.c3d import C3D

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHANNELS_FOR_TENSOR_CORES = 8


class DirectNetwork:
    """The steps of a network up to the deepest of `layers`, in one precision on one device.

    precision: "fp32" is IEEE float32; "tf32" rounds the factors of every product to 10 bits, on NVIDIA from Ampere;
        "bf16" and "fp16" hold weights and activations in 16 bits. Sums are float32 in all of them.
    for_gpu: the memory layout and the order of steps that matrix units are fast with; by default on a GPU and in bf16.
    """

    def __init__(
        self,
        network: C3D,
        layers: Iterable[str],
        *,
        device: torch.device,
        precision: Precision,
        for_gpu: bool | None = None,
        deterministic: bool = False,
    ) -> None:
        self.layers = network.check_layers(layers)
        self.device, self.precision, self._deterministic = device, precision, deterministic
        self._steps = network.steps[: max(map(network.steps.index, self.layers)) + 1]
        # A CPU with matrix units (AMX) takes 0.139 s per clip in bf16 with this layout, and 0.486 without.
        self._for_gpu = device.type == "cuda" or precision == "bf16" if for_gpu is None else for_gpu
        dtype = DTYPES[precision]
        # In fp32 on a CPU the caller's weights serve as they are; a copy would take their 312 MB once more.
        if self._for_gpu or dtype != torch.float32:
            network = deepcopy(network).to(device=device, dtype=dtype)
        if self._for_gpu:
            pad_first(network)
            network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._network = network
        self._dtype = dtype

    def __call__(self, clips: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Float32 activations of float32 clips (N, 3, T, H, W), and for each clip whether all its numbers are finite.

        Every activation is checked, after ReLU and pooling, and not only those returned: an infinite input and a
        negative weight give minus infinity, which ReLU turns into zero.
        """
        with switches(self.precision, deterministic=self._deterministic):
            return self.compute(clips)

    @torch.inference_mode()
    def compute(self, clips: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """As `__call__`, for callers that have set the switches of PyTorch for the precision."""
        x = clips.to(self._dtype)
        if self._for_gpu:
            # Not `pad`, whose result has the layout of its input: conv1a would then copy all of it to channels-last.
            shape = (len(x), _CHANNELS_FOR_TENSOR_CORES, *x.shape[2:])
            padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d).zero_()
            padded[:, : x.shape[1]] = x
            x = padded
        found: dict[str, Tensor] = {}
        finite = torch.ones(len(x), dtype=torch.bool, device=self.device)
        for name, y in self._walk(x):
            # The maximum of numbers that are not negative is infinite or NaN if one of them is.
            finite &= y.amax((1, 2, 3, 4)).isfinite() if y.ndim == 5 else y.isfinite().all(1)
            if name in self.layers:
                # To the usual order of axes: channels-last is an affair of this device, not of who reads the features.
                found[name] = y.float().contiguous()
        return {name: found[name] for name in self.layers}, finite

    def _walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield every step with its activation, except convolutions that are computed together with their pooling."""
        waiting: nn.Conv3d | None = None
        for name, following in zip(self._steps, (*self._steps[1:], ""), strict=True):
            # A convolution whose own activation is wanted needs its bias and ReLU before the pooling.
            merges = following.startswith("pool") and name not in self.layers
            if self._for_gpu and name.startswith("conv") and merges:
                waiting = self._network.get_submodule(name)  # type: ignore[assignment]
                continue
            x = (
                self._network.step(name, x)
                if waiting is None
                else pool_first(waiting, self._network.get_submodule(name), x)
            )
            waiting = None
            yield name, x


def pool_first(convolution: nn.Conv3d, pool: nn.Module, x: Tensor) -> Tensor:
    """Convolution, pooling, bias and ReLU in this order; the result equals convolution, bias, ReLU and pooling.

    Adding a number and ReLU keep the order of numbers, so that they may follow a maximum as well as precede it.
    """
    y: Tensor = pool(nn.functional.conv3d(x, convolution.weight, None, padding=convolution.padding))
    if convolution.bias is not None:
        y.add_(convolution.bias.view(-1, 1, 1, 1))
    return y.relu_()


def pad_first(network: C3D, n_channels: int = _CHANNELS_FOR_TENSOR_CORES) -> None:
    """Widen conv1a in place to `n_channels` input channels, the new ones with zero weights."""
    first = network.get_submodule("conv1a")
    assert isinstance(first, nn.Conv3d)
    missing = (0, 0, 0, 0, 0, 0, 0, n_channels - first.in_channels)
    first.weight = nn.Parameter(nn.functional.pad(first.weight.detach(), missing), requires_grad=False)
    first.in_channels = n_channels
