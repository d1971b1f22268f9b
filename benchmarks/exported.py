"""Seconds per clip of exported files, in the runtime of each format, beside eager PyTorch and this package's engine."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.network import EAGER, OURS, seeded_network
from benchmarks.turns import Row, rows_of, take_turns
from c3dvideo.inference.engine import make_engine
from c3dvideo.network.c3d import C3D
from c3dvideo.weights.export import SUFFIXES, export, open_exported
from c3dvideo.weights.export_check import reference

NEEDS = {"onnx": "onnxruntime", "openvino": "openvino"}


def measure(*, quick: bool) -> Iterator[Row]:
    """The release's network and the embedded one up to fc6, one clip per call, in every format that installs here."""
    for name, network in (("embedded", C3D.from_pretrained("embedded")), ("release", seeded_network())):
        if not (quick and name == "release"):
            yield from _measure(name, network, rounds=3 if quick else 9)


def _measure(name: str, network: C3D, *, rounds: int) -> Iterator[Row]:
    network.profile = C3D.from_pretrained("embedded").profile  # whose mean is one number per channel
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (1, 3, 16, 112, 112), dtype=np.uint8)
    clips = (pixels - 105.0).astype(np.float32)
    engine = make_engine(network, layers=["fc6"], device="cpu")
    ways: dict[str, Callable[[], object]] = {
        EAGER: partial(reference, network, clips, ["fc6"]),
        OURS: partial(engine, pixels),
    }
    with tempfile.TemporaryDirectory() as folder:
        for to, suffix in SUFFIXES.items():
            if to in NEEDS and find_spec(NEEDS[to]) is None:
                continue
            run = open_exported(export(network, Path(folder, f"c3d{suffix}"), to=to, layers=["fc6"]), to)
            ways[f"exported: {to}"] = partial(run, clips)
        if find_spec("onnxruntime") is not None:
            int8 = export(network, Path(folder, "int8.onnx"), to="onnx", layers=["fc6"], calibration=[clips])
            ways["exported: onnx, int8"] = partial(open_exported(int8, "onnx"), clips)
        with torch.inference_mode():
            seconds = take_turns(ways, rounds=rounds)
    yield from rows_of(f"export {name}", seconds, against=EAGER, unit="s/clip")
