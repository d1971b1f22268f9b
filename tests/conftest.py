"""Fixtures that tests of every package use."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# OpenMP's threads wait for work in a busy loop. Where several test processes share the cores, those loops take the time
# of the threads that compute: one training step took ten times as long. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from c3dvideo import C3D
from c3dvideo.video.preprocess import CAFFE

if not torch.cuda.is_available():
    # Before anything imports Triton: its kernels then run on the CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")

REFERENCE = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def random_state() -> Iterator[None]:
    """Every test starts from the same seed and leaves the global generators as they were."""
    python, legacy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    random.setstate(python)
    np.random.set_state(legacy)
    torch.set_rng_state(torch_state)


@pytest.fixture
def reference() -> Path:
    """The folder of recorded outputs of the authors' program and of real clips, where it lies beside the checkout."""
    if not REFERENCE.is_dir():
        pytest.skip("the recorded outputs of the authors' program are not beside this checkout")
    return REFERENCE


@pytest.fixture
def narrow_network() -> C3D:
    """The release topology, a few channels wide, with weights from a fixed seed and five classes."""
    torch.manual_seed(20150712)
    network = C3D(num_classes=5, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16, filler="xavier")
    network.classes = ("a", "b", "c", "d", "e")
    network.mean_volume = np.full((3, 16, 128, 171), 100.0, np.float32)
    return network.eval()


@pytest.fixture(scope="session")
def make_tiny_network() -> Callable[..., C3D]:
    """Makes networks for 8 frames of 32x32 pixels, fast enough for many whole runs, with weights from a seed."""

    def make(classes: tuple[str, ...] = ("a", "b", "c", "d", "e"), *, seed: int = 20150712) -> C3D:
        torch.manual_seed(seed)
        network = C3D(
            num_classes=len(classes),
            stages=((4,), (4,), (8, 8), (8, 8), (8, 8)),
            fc_width=16,
            filler="xavier",
            clip_length=8,
            crop_size=32,
        )
        network.classes = classes
        network.profile = replace(
            CAFFE, name="tiny", resize_height=36, resize_width=48, crop_size=32, crop_top=2, crop_left=8
        )
        network.mean_volume = np.full((3, 8, 36, 48), 100.0, np.float32)
        return network.eval()

    return make


@pytest.fixture
def tiny_network(make_tiny_network: Callable[..., C3D]) -> C3D:
    """A tiny network with five classes."""
    return make_tiny_network()


@pytest.fixture(scope="session")
def moving_square() -> Callable[..., Path]:
    """Writes a video of a bright square that crosses a textured background; returns its path."""

    def write(
        path: Path, *, n_frames: int = 40, height: int = 96, width: int = 128, fps: int = 25, seed: int = 0
    ) -> Path:
        from c3dvideo.video.encode import write_video

        generator = np.random.default_rng(seed)
        background = generator.integers(0, 120, (height, width, 3), dtype=np.uint8)
        side = max(2, min(height, width) // 4)

        def frames() -> Iterator[np.ndarray]:
            for index in range(n_frames):
                picture = background.copy()
                left = (3 * index + 7 * seed) % max(1, width - side)
                picture[height // 3 : height // 3 + side, left : left + side] = (250, 180, 40)
                yield picture

        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames(), fps=fps)
        return path

    return write


@pytest.fixture
def feature_folder() -> Callable[..., Path]:
    """Writes a folder of features from {name: array (n_clips, D) or {layer: array}}; returns its path."""

    def write(
        folder: Path, videos: dict[str, Any], *, layer: str = "fc6", settings: dict[str, Any] | None = None
    ) -> Path:
        from c3dvideo.features.store import VideoFeatures, feature_path, write_features

        for name, given in videos.items():
            arrays = given if isinstance(given, dict) else {layer: given}
            n_clips = len(next(iter(arrays.values())))
            features = VideoFeatures(
                name=name,
                layers={key: np.asarray(array, np.float32) for key, array in arrays.items()},
                start_frame=16 * np.arange(n_clips),
                start_seconds=0.64 * np.arange(n_clips),
                metadata={"settings": settings or {"weights": "w1"}},
            )
            write_features(feature_path(folder, name), features)
        return folder

    return write
