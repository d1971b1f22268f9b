"""A small network that learns which way a square moves, and clips of the square with its place."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.explain.layered import network_input
from c3dvideo.video.preprocess import CAFFE

Clip = tuple[np.ndarray, int, np.ndarray]


def square_clip(seed: int) -> Clip:
    """A square of any colour over a still background of blocks: uint8 (3, 8, 32, 32), its direction, its place."""
    generator = np.random.default_rng(seed)
    direction = int(generator.integers(2))
    blocks = generator.integers(60, 190, (8, 8, 3))
    frames = np.repeat(np.kron(blocks, np.ones((4, 4, 1))).astype(np.uint8)[None], 8, axis=0).copy()
    place = np.zeros((8, 32, 32), bool)
    top, start = int(generator.integers(0, 25)), int(generator.integers(0, 4))
    colour = generator.integers(0, 255, 3)
    for time in range(8):
        left = start + 3 * time if direction else 24 - start - 3 * time
        frames[time, top : top + 8, left : left + 8] = colour
        place[time, top : top + 8, left : left + 8] = True
    return frames.transpose(3, 0, 1, 2), direction, place


def square_network(seed: int) -> C3D:
    """An untrained network for those clips, with the classes "left" and "right"."""
    torch.manual_seed(seed)
    network = C3D(
        num_classes=2,
        stages=((8,), (8,), (16, 16), (16, 16), (16, 16)),
        fc_width=32,
        filler="xavier",
        clip_length=8,
        crop_size=32,
        dropout=0.0,
    )
    network.profile = replace(
        CAFFE,
        name="squares",
        resize_height=36,
        resize_width=48,
        crop_size=32,
        crop_top=2,
        crop_left=8,
        mean=(128.0, 128.0, 128.0),
        std=(50.0, 50.0, 50.0),
    )
    network.classes = ("left", "right")
    return network


@pytest.fixture(scope="session")
def make_network() -> Callable[[int], C3D]:
    """Makes an untrained network from a seed."""
    return square_network


@pytest.fixture(scope="session")
def trained() -> C3D:
    """The network after 100 steps, which is right about nearly every clip."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its layers are too small for more
    try:
        return _train()
    finally:
        torch.set_num_threads(n_threads)


def _train() -> C3D:
    with torch.random.fork_rng():
        network = square_network(0)
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for step in range(100):
            clips, directions, _ = zip(*(square_clip(step * 32 + index) for index in range(32)), strict=True)
            loss = torch.nn.functional.cross_entropy(
                network(network_input(network, np.stack(clips))), torch.tensor(directions)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return network.eval()


@pytest.fixture(scope="session")
def squares() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """48 clips that were not trained on: pixels, directions, places."""
    clips, directions, places = zip(*(square_clip(10**6 + index) for index in range(48)), strict=True)
    return np.stack(clips), np.array(directions), np.stack(places)
