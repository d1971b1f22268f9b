"""Choose the precision and allocator settings that train fastest on this machine.

    precision = choose_precision("auto", accelerator="cpu")      # "bf16" if the hardware multiplies it, else "fp32"
    keep_freed_memory()

bfloat16 halves the memory traffic of every layer, and matrix units (AMX on a CPU, tensor cores on a GPU) multiply it
several times faster. Sums, weights and updates stay float32.
"""

import ctypes
import functools
import sys
from typing import Literal

import torch
from torch.nn import functional

from c3dvideo.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # names of malloc.h


def choose_precision(wanted: str, *, accelerator: str = "auto") -> Precision:
    """`wanted`, or for "auto": "bf16" if `accelerator` (a Lightning name) multiplies it in hardware, else "fp32".

    Raises UsageError for bf16 on a CPU whose library computes wrong bf16 gradients, and for fp16 without a GPU.
    """
    if wanted == "auto":
        return "bf16" if _multiplies_bf16(accelerator) else "fp32"
    if wanted == "bf16" and not takes_gpu(accelerator) and not bf16_gradients_are_right():
        raise UsageError("bf16 gradients come out wrong on this processor (a fault of oneDNN); use `precision=fp32`")
    if wanted == "fp16" and not takes_gpu(accelerator):
        raise UsageError("fp16 trains on a GPU only; use `precision=bf16` or `precision=fp32`")
    if wanted not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"`precision=` is {wanted!r}; expected auto, fp32, bf16 or fp16")
    return wanted  # type: ignore[return-value]


@functools.cache
def bf16_gradients_are_right() -> bool:
    """Whether this CPU computes correct weight gradients of a bf16 convolution, measured on one.

    oneDNN 3.12 without AMX returns wrong, often infinite, values for inputs of two frames, the input of stage 5.
    """
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(8, 32, 2, 4, 4, generator=generator).contiguous(memory_format=torch.channels_last_3d)
    weight = torch.randn(32, 32, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last_3d)
    gradients = []
    for low in (False, True):
        leaf = weight.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            functional.conv3d(clips, leaf, padding=1).float().square().mean().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    exact, found = gradients
    return bool(torch.isfinite(found).all()) and bool((found - exact).norm() < 0.05 * exact.norm())


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next batch instead of returning it to the system.

    Every batch needs the same large tensors. On Linux, mapping their pages again took a third of the CPU time. Has an
    effect with glibc only.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
        mallopt(TOP_PAD, 64 << 20)


def takes_gpu(accelerator: str) -> bool:
    """Whether `accelerator` (a Lightning name) means an NVIDIA GPU on this machine."""
    return accelerator not in ("cpu", "mps") and torch.cuda.is_available()


def _multiplies_bf16(accelerator: str) -> bool:
    if takes_gpu(accelerator):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator == "mps" or (accelerator in ("auto", "gpu") and torch.backends.mps.is_available()):
        return False
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(has_amx()) and bf16_gradients_are_right()
