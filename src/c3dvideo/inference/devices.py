"""Devices by name, and which engine computes on them.

devices("cuda")                                            # ["cuda:0", "cuda:1"]
choose_engine("auto", find_device("cpu"), "fp32")          # "winograd"
"""

from typing import Literal, get_args

import torch

from c3dvideo.choices import EngineName, Precision
from c3dvideo.errors import UsageError


def devices(which: str = "auto") -> list[str]:
    """The devices that `which` names, one per process: "cuda" means every GPU, "auto" every GPU or else the CPU.

    which: one name, or several separated by commas. Raises UsageError for a device that this machine lacks.
    """
    every = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if which == "auto":
        return every or ["cpu"]
    # Where there is no GPU, "cuda" is passed on: `find_device` then raises the error that says so.
    names = [name.strip() for name in which.split(",")]
    return [str(find_device(name)) for given in names for name in (every if given == "cuda" and every else [given])]


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU or else the CPU. Raises UsageError when there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is not known; choose auto, cpu, cuda or cuda:N with `device=`") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; choose auto, cpu, cuda or cuda:N with `device=`")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not there: PyTorch sees {torch.cuda.device_count()} GPUs; choose another `device=`"
        )
    return device


def choose_engine(
    name: EngineName, device: torch.device, precision: Precision
) -> Literal["direct", "winograd", "onnx"]:
    """How convolutions are computed on `device`; raises UsageError for a combination that does not exist.

    The choice is a rule and not a measurement, so that a run that is stopped and started again computes the same bits.
    """
    if precision not in get_args(Precision) or name not in get_args(EngineName):
        raise UsageError(
            f"precision {precision!r} with engine {name!r}: precisions are {', '.join(get_args(Precision))}, "
            f"engines {', '.join(get_args(EngineName))}"
        )
    if name == "onnx":
        if device.type != "cpu" or precision not in ("fp32", "int8"):
            raise UsageError(f"engine 'onnx' runs on the CPU, in fp32 or int8, not on {device} in {precision}")
        return "onnx"
    if precision == "int8":
        raise UsageError(
            "precision 'int8' is that of exported files, which engine 'onnx' runs; the other precisions are fp32, "
            "tf32, bf16 and fp16"
        )
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision 'tf32' is a mode of NVIDIA GPUs; take 'fp32' on the CPU")
    # Winograd multiplies sums and differences of inputs, which lose digits in 16 bits. On a GPU, multiplications cost
    # less than the additions that would replace them.
    fits = device.type == "cpu" and precision == "fp32"
    if name == "winograd" and not fits:
        raise UsageError(f"engine 'winograd' runs on the CPU in fp32, not on {device} in {precision}; take 'direct'")
    return "winograd" if fits and name != "direct" else "direct"
