"""Devices by name, and what cannot be had there."""

import pytest
import torch

from c3dvideo import C3D
from c3dvideo.errors import UsageError
from c3dvideo.inference.devices import devices
from c3dvideo.inference.engine import make_engine


def test_devices() -> None:
    assert devices("cpu") == ["cpu"]
    assert devices("cpu, cpu") == ["cpu", "cpu"]
    n_gpus = torch.cuda.device_count()
    assert devices() == ([f"cuda:{index}" for index in range(n_gpus)] or ["cpu"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu9"}, "not known"),
        ({"device": "meta"}, "not supported"),
        ({"device": "cuda:99"}, "is not there"),
        ({"precision": "tf32"}, "NVIDIA"),
        ({"precision": "int8"}, "precisions are"),
        ({"engine": "fft"}, "engines"),
        ({"engine": "winograd", "precision": "bf16"}, "take 'direct'"),
    ],
)
def test_refusals(narrow_network: C3D, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_engine(narrow_network, layers=["fc6"], **{"device": "cpu", **options})
