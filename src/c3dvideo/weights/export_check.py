"""Compare an exported file with PyTorch, on random and on generated clips, and time it beside other ways to compute.

    check = check_export(network, "c3d.onnx", to="onnx", layers=["fc6"])
    check.differences[0].largest, check.speeds[0].seconds_per_clip

The generated clips are pictures of moving objects, decoded to 240 x 320 pixels. What is compared against is this
package's own preprocessing and PyTorch's own layers in float32.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from c3dvideo.choices import ExportFormat
from c3dvideo.inference.engine import make_engine
from c3dvideo.inference.engine_arrays import Array
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D
from c3dvideo.synthetic.rendering import render
from c3dvideo.synthetic.scenes import draw_scene
from c3dvideo.video.preprocess import prepare_frame
from c3dvideo.weights.export import open_exported

_CLIPS = 3  # of each kind; not the number that the exporters trace with
_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the outputs of a file are from PyTorch's.

    largest: largest absolute difference. largest_value: of PyTorch's output, for comparison. relative: L2 norm of the
    difference divided by that of the output.
    """

    layer: str
    clips: str
    largest: float
    largest_value: float
    relative: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds per clip of one way to compute, one clip per call: the median of several calls."""

    name: str
    seconds_per_clip: float


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """What was found about one exported file; a file for OpenVINO counts with its .bin."""

    n_bytes: int
    differences: tuple[Difference, ...]
    speeds: tuple[Speed, ...]


def check_export(
    network: C3D,
    file: str | Path,
    *,
    to: ExportFormat,
    layers: Sequence[str],
    with_preprocessing: bool = False,
    rounds: int = _ROUNDS,
) -> ExportCheck:
    """Run the file on a few clips, with another number of clips and another frame size than it was traced with.

    rounds: calls per way to compute, which take turns; 0 measures no speed.
    """
    run = open_exported(file, to)
    prepare = _Preparation(network)
    differences = []
    for kind, frames in (("random", _random_frames(network)), ("generated", _generated_frames(network))):
        clips = prepare(frames)
        expected = reference(network, clips, layers)
        found = run(frames if with_preprocessing else clips)
        differences += [_difference(name, kind, found[name], expected[name]) for name in layers]
    binary = Path(file).with_suffix(".bin") if to == "openvino" else None
    return ExportCheck(
        n_bytes=Path(file).stat().st_size + (binary.stat().st_size if binary else 0),
        differences=tuple(differences),
        speeds=tuple(_speeds(network, run, prepare, layers, with_preprocessing, rounds)) if rounds else (),
    )


def reference(network: C3D, clips: Array, layers: Sequence[str]) -> dict[str, Array]:
    """PyTorch's activations of network input, float32, by layer."""
    with torch.inference_mode():
        return {name: y.numpy() for name, y in network.activations(torch.from_numpy(clips), layers).items()}


class _Preparation:
    """This package's own preprocessing: float32 network input of uint8 frames (N, T, H, W, 3), RGB."""

    def __init__(self, network: C3D) -> None:
        self._profile, self._views = network.profile, network.profile.views("centre")
        self._scaling = Scaling.of(network, self._views, torch.device("cpu"))

    def pixels(self, frames: Array) -> Array:
        """uint8 (N, 3, T, crop, crop) in the profile's channel order."""
        ordered = frames if self._profile.channel_order == "rgb" else frames[..., ::-1]
        every = map(np.ascontiguousarray, np.concatenate(ordered))
        pictures = [prepare_frame(one, self._profile, self._views)[0] for one in every]
        clips = np.stack(pictures).reshape(*frames.shape[:2], *pictures[0].shape)
        return np.ascontiguousarray(clips.swapaxes(1, 2))

    def __call__(self, frames: Array) -> Array:
        return self._scaling.apply(torch.from_numpy(self.pixels(frames))).numpy()


def _random_frames(network: C3D) -> Array:
    generator = np.random.default_rng(0)
    shape = (_CLIPS, network.architecture["clip_length"], 150, 200, 3)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def _generated_frames(network: C3D, n_clips: int = _CLIPS) -> Array:
    """uint8 (N, T, 240, 320, 3), RGB."""
    length = network.architecture["clip_length"]
    n_frames = max(8, 1 << (length - 1).bit_length())  # scenes have a power of two
    scenes = [draw_scene(seed=0, index=index, n_frames=n_frames) for index in range(n_clips)]
    clips = render(scenes, height=240, width=320)[:, :, :length]
    return np.ascontiguousarray(clips.permute(0, 2, 3, 4, 1).numpy())


def _difference(layer: str, kind: str, found: Array, expected: Array) -> Difference:
    distance = np.linalg.norm((found - expected).astype(np.float64))
    return Difference(
        layer=layer,
        clips=kind,
        largest=float(np.abs(found - expected).max()),
        largest_value=float(np.abs(expected).max()),
        relative=float(distance / (np.linalg.norm(expected.astype(np.float64)) or 1.0)),
    )


def _speeds(
    network: C3D,
    run: Callable[[Array], object],
    prepare: _Preparation,
    layers: Sequence[str],
    with_preprocessing: bool,
    rounds: int,
) -> Iterator[Speed]:
    """The file, PyTorch as it is, and this package's engine, in turns, from frames or from prepared clips."""
    frames = _generated_frames(network, n_clips=1)
    pixels, clips = prepare.pixels(frames), prepare(frames)
    engine = make_engine(network, layers=layers, device="cpu")
    if with_preprocessing:
        ways: dict[str, Callable[[], object]] = {
            "exported file": lambda: run(frames),
            "PyTorch eager": lambda: reference(network, prepare(frames), layers),
            "c3dvideo": lambda: engine(prepare.pixels(frames)),
        }
    else:
        ways = {
            "exported file": lambda: run(clips),
            "PyTorch eager": lambda: reference(network, clips, layers),
            "c3dvideo": lambda: engine(pixels),
        }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:  # the first call of each is not counted
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        yield Speed(name=name, seconds_per_clip=median(times))
