"""PyTorch's switches for the precision of products, set for a block and put back after it.

with switches("tf32"):
    y = torch.nn.functional.conv3d(x, weight)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch

from c3dvideo.choices import Precision

_switching = RLock()


@contextmanager
def switches(precision: Precision, *, deterministic: bool = False) -> Iterator[None]:
    """Set PyTorch's switches for a precision within this block, and put them back after it.

    Float32 products are exact unless "tf32" is given, whatever the program chose by `set_float32_matmul_precision`: its
    "medium" makes a CPU with AMX multiply in bfloat16. PyTorch's own default rounds convolutions on a GPU to TF32.
    cuDNN tries its algorithms on the first batch, and may take another one in the next run. In "fp32" and with
    `deterministic` it takes the same ones in every run, and only those that always give the same bits.
    """
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    has_names = hasattr(cudnn, "conv")  # from PyTorch 2.9 on
    on_gpu: list[Any] = [torch.backends.cuda.matmul, cudnn.conv if has_names else cudnn]
    wanted: list[tuple[Any, str, Any]] = [
        (place, "fp32_precision", "tf32" if precision == "tf32" else "ieee")
        if has_names
        else (place, "allow_tf32", precision == "tf32")
        for place in on_gpu
    ]
    if has_names:
        wanted += [(place, "fp32_precision", "ieee") for place in (mkldnn.matmul, mkldnn.conv)]
    # By default a product may be split into parts that are summed in 16 bits.
    wanted += [
        (torch.backends.cuda.matmul, f"allow_{name}_reduced_precision_reduction", False) for name in ("fp16", "bf16")
    ]
    fixed = deterministic or precision == "fp32"
    wanted += [(cudnn, "benchmark", not fixed), (cudnn, "deterministic", fixed)]
    # One block at a time: the switches belong to the process, and another thread would put them back too early.
    with _switching:
        before = [getattr(place, name) for place, name, _ in wanted]
        for place, name, value in wanted:
            setattr(place, name, value)
        try:
            yield
        finally:
            for (place, name, _), value in zip(wanted, before, strict=True):
                setattr(place, name, value)
