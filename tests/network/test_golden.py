"""Activations against numbers made without this package, and against the authors' own program where those are there."""

import hashlib
import runpy
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.winograd_network import WinogradNetwork
from c3dvideo.network.folder import assemble
from c3dvideo.video.decode import open_video
from c3dvideo.video.preprocess import CAFFE, input_mean, prepare_frame
from c3dvideo.weights.import_weights import import_weights, read_mean

Activations = Callable[[torch.Tensor, Iterable[str]], dict[str, torch.Tensor]]

GOLDEN = Path(__file__).parents[1] / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make_network.py"))
SHA256 = {  # of conv5b and fc6 weights, as their generator's authors list them
    "small": ("08c5a81e481bbd1f", "2f01a5e22d3c1d42"),
    "full": ("78786a3dd23fca16", "9603a037ad797be9"),
}


def seeded_network(kind: str) -> C3D:
    widths = MAKE[kind.upper()]
    arrays = MAKE["weights"](widths)
    for name, start in zip(("conv5b", "fc6"), SHA256[kind], strict=True):
        assert hashlib.sha256(arrays[f"{name}.weight"].tobytes()).hexdigest().startswith(start)
    stages = [[widths[0]], [widths[1]], widths[2:4], widths[4:6], widths[6:8]]
    architecture = {"num_classes": widths[10], "stages": stages, "fc_width": widths[8]}
    return assemble(C3D, architecture, {name: torch.from_numpy(x) for name, x in arrays.items()}, source=kind)


def distance(ours: Any, theirs: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(np.ravel(ours) - np.ravel(theirs)) / np.linalg.norm(theirs))


@torch.inference_mode()
def test_generated_clip() -> None:
    expected = np.load(GOLDEN / "network.npz")
    network = seeded_network("small")
    clip = MAKE["clip"]() - np.float32([100, 108, 107]).reshape(3, 1, 1, 1)
    found = network.activations(torch.from_numpy(clip)[None], network.steps)
    network.use_pool5("symmetric")
    ports = network.activations(torch.from_numpy(clip)[None], network.steps)
    for name in expected.files:
        ours = ports[name.removeprefix("symmetric/")] if name.startswith("symmetric/") else found[name]
        assert distance(MAKE["samples"](ours.numpy()), expected[name]) < 1e-5, name
    assert set(network.steps) < set(expected.files)


def test_the_stored_numbers_are_those_of_the_script() -> None:
    """The reference recomputed as far as conv1a; the rest takes the script a while."""
    clip = MAKE["clip"]() - np.float64([100, 108, 107]).reshape(3, 1, 1, 1)
    arrays = MAKE["weights"]()
    conv1a = np.maximum(MAKE["convolution"](clip, arrays["conv1a.weight"], arrays["conv1a.bias"]), 0)
    assert np.array_equal(MAKE["samples"](conv1a).astype(np.float32), np.load(GOLDEN / "network.npz")["conv1a"])


class Release:
    """The clips that the authors' program was run on, made ready by this package's own decoder and profile."""

    def __init__(self, reference: Path, scratch: Path) -> None:
        self.oracle = reference / "oracle"
        self._videos = reference / "data" / "ucf101"
        self._scratch = scratch
        self._frames: dict[tuple[str, bool], np.ndarray] = {}
        self.mean = read_mean(self.oracle / "mean_16_128_171.binaryproto")

    def network_input(self, key: str) -> np.ndarray:
        """float32 (3, 16, 112, 112) of the clip that `<list>/<video>/<start>` names."""
        listed, video, start = key.split("/")
        from_folder = "frm" in listed
        first, rate = int(start) - from_folder, 2 if listed == "video_rate2" else 1
        clip = self._prepared(video, from_folder)[first : first + 16 * rate : rate]
        view = CAFFE.views("centre")[0]
        return clip.transpose(1, 0, 2, 3).astype(np.float32) - input_mean(CAFFE, self.mean, view)

    def _prepared(self, video: str, from_folder: bool) -> np.ndarray:
        """uint8 (n_frames, 3, 112, 112), decoded once."""
        if (video, from_folder) not in self._frames:
            source = self._videos / f"{video}.avi"
            if from_folder:
                with tarfile.open(next(self._videos.glob(f"{video}*.tar.gz"))) as archive:
                    archive.extractall(self._scratch, filter="data")
                source = next(path.parent for path in self._scratch.rglob("000001.jpg") if video in str(path))
            views = CAFFE.views("centre")
            with open_video(source) as opened:
                prepared = [prepare_frame(frame.pixels, CAFFE, views)[0] for frame in opened.frames()]
            self._frames[video, from_folder] = np.stack(prepared)
        return self._frames[video, from_folder]


@torch.inference_mode()
def compare(release: Release, run: Activations, recorded: Any, clips: list[str]) -> dict[str, float]:
    """Largest relative distance of every blob over the clips, by blob name."""
    worst: dict[str, float] = {}
    for clip in clips:
        blobs = {key.rsplit("/", 1)[1]: key for key in recorded.files if key.rsplit("/", 1)[0] == clip}
        layers = {blob: blob.split("[")[0].removesuffix("-1") for blob in blobs}
        found = run(torch.from_numpy(release.network_input(clip))[None], layers.values())
        for blob, key in blobs.items():
            ours = found[layers[blob]][0].numpy()
            if "[" in blob:
                steps = [int(part.rpartition("::")[2]) for part in blob[blob.index("[") + 1 : -1].split(",")[1:]]
                ours = ours[:, :: steps[0], :: steps[1], :: steps[2]]
            worst[blob] = max(worst.get(blob, 0), distance(ours, recorded[key]))
    return worst


@pytest.fixture
def release(reference: Path, tmp_path: Path) -> Release:
    return Release(reference, tmp_path)


def tolerance(blob: str) -> float:
    """conv1a and its pool were bit-equal where this was written; the sums of other machines may round otherwise."""
    return 2e-5 if blob == "prob" else 1e-6 if blob.startswith(("conv1a", "pool1")) else 1e-5


@pytest.mark.oracle
def test_every_blob_of_the_authors_program_small(release: Release) -> None:
    network = import_weights(
        release.oracle / "c3d_small.caffemodel", mean=release.oracle / "mean_16_128_171.binaryproto"
    )
    for name, array in seeded_network("small").state_dict().items():
        assert torch.equal(network.state_dict()[name], array), name
    recorded = np.load(release.oracle / "small_features.npz")
    clips = sorted({key.rsplit("/", 1)[0] for key in recorded.files})
    worst = compare(release, network.activations, recorded, clips)
    assert len(clips) == 51
    assert {blob: error for blob, error in worst.items() if error > tolerance(blob)} == {}


@pytest.mark.oracle
def test_the_full_network_of_the_authors_program(release: Release) -> None:
    recorded = np.load(release.oracle / "full_features.npz")
    clips = sorted({key.rsplit("/", 1)[0] for key in recorded.files})
    worst = compare(release, seeded_network("full").activations, recorded, clips[::4])
    assert {blob: error for blob, error in worst.items() if error > tolerance(blob)} == {}


@pytest.mark.oracle
def test_the_full_network_by_the_engine_of_the_cpu(release: Release) -> None:
    recorded = np.load(release.oracle / "full_features.npz")
    clips = sorted({key.rsplit("/", 1)[0] for key in recorded.files})
    network = seeded_network("full")

    def run(pixels: torch.Tensor, layers: Iterable[str]) -> dict[str, torch.Tensor]:
        return WinogradNetwork(network, list(layers), kernels=kernels.load())(pixels)

    worst = compare(release, run, recorded, clips)
    assert {blob: error for blob, error in worst.items() if error > 1e-5 and blob != "prob"} == {}
    assert worst["prob"] < 2e-5


@pytest.mark.oracle
def test_blob_files_of_the_authors_program(release: Release) -> None:
    """Five int32 sizes, then float32: what the program writes, against what this network computes."""
    network = import_weights(release.oracle / "c3d_small.caffemodel")
    pixels = torch.from_numpy(release.network_input("video_s16/v_BaseballPitch_g01_c01/000032"))[None]
    files = sorted((release.oracle / "raw_blobs").iterdir())
    assert len(files) == 3
    for file in files:
        blob = file.suffix.removeprefix(".")
        content = file.read_bytes()
        shape = np.frombuffer(content[:20], "<i4")
        (ours,) = network.activations(pixels, [blob.removesuffix("-1")]).values()
        assert ours.numel() == shape.prod()
        assert distance(ours.detach().numpy(), np.frombuffer(content[20:], "<f4")) < tolerance(blob)
