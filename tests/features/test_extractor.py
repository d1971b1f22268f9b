"""The extractor: made once, called often, the same features that `extract` stores."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from c3dvideo import C3D
from c3dvideo.choices import Crops
from c3dvideo.errors import ShortVideoError, UsageError
from c3dvideo.features import prepare_network as module
from c3dvideo.features.extract import extract
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import VideoFeatures, write_features
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan

PLAN = ClipPlan(clip_length=8, stride_frames=4)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Path:
    for index, name in enumerate(["a.mp4", "sub/b.mp4"]):
        moving_square(tmp_path / "videos" / name, n_frames=17 + 9 * index, height=48, width=64, seed=index)
    return tmp_path / "videos"


@pytest.mark.parametrize("pool", [None, "mean"])
def test_a_call_yields_what_extract_stores(videos: Path, tmp_path: Path, tiny_network: C3D, pool: None) -> None:
    extract([videos], tmp_path / "out", weights=tiny_network, layers=["fc6", "prob"], plan=PLAN, pool=pool)
    extractor = Extractor(tiny_network, layers=["prob", "fc6"], plan=PLAN, pool=pool)
    for _ in range(2):
        found = {video.name: video for video in extractor([videos])}
        assert sorted(found) == ["a.mp4", "sub/b.mp4"]
        for name, features in found.items():
            assert isinstance(features, VideoFeatures)
            write_features(tmp_path / "again.npz", features)
            assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "out" / f"{name}.npz").read_bytes()


def test_weights_are_loaded_and_the_engine_is_built_once(
    videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_folder(tiny_network, tmp_path / "weights")
    loaded: list[object] = []
    load = module.load_weights
    monkeypatch.setattr(module, "load_weights", lambda name: loaded.append(name) or load(name))
    extractor = Extractor(tmp_path / "weights", plan=PLAN)
    engine = extractor.engine
    (features,) = extractor(videos / "a.mp4")
    (again,) = extractor(str(videos / "a.mp4"))
    assert isinstance(features, VideoFeatures)
    assert isinstance(again, VideoFeatures)
    np.testing.assert_array_equal(features.layers["fc6"], again.layers["fc6"])
    assert features.layers["fc6"].shape == (3, 16)
    assert (loaded, extractor.engine is engine) == ([tmp_path / "weights"], True)


def test_a_bad_video_is_a_failure_among_the_others(videos: Path, tiny_network: C3D) -> None:
    (videos / "bad.mp4").write_text("not a video")
    outcomes = {video.name: video for video in Extractor(tiny_network, plan=PLAN)([videos])}
    assert sorted(outcomes) == ["a.mp4", "bad.mp4", "sub/b.mp4"]
    assert isinstance(outcomes["bad.mp4"], Failure)


def test_it_can_be_sent_to_another_process_and_moved_to_another_device(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, plan=PLAN)
    sent = pickle.loads(pickle.dumps(extractor)).on("cpu")
    assert sent.settings == extractor.settings
    assert sent.engine is not extractor.engine


def test_what_does_not_fit_is_refused_before_anything_is_decoded(tiny_network: C3D) -> None:
    with pytest.raises(UsageError, match="unknown layer: fc9"):
        Extractor(tiny_network, layers=["fc9"])
    with pytest.raises(UsageError, match="`damaged=` is 'kep'; expected one of error, keep"):
        Extractor(tiny_network, damaged="kep")  # type: ignore[arg-type]
    assert Extractor(tiny_network, layers="fc6").layers == ["fc6"]
    with pytest.raises(UsageError, match="tf32"):
        Extractor(tiny_network, device="cpu", precision="tf32")
    with pytest.raises(UsageError, match="no such file or folder: 'nope'"):
        next(Extractor(tiny_network)("nope"))


@pytest.mark.parametrize("crops", ["centre", "five"])
def test_frames_in_memory_give_the_features_of_the_same_frames_in_files(
    tiny_network: C3D, tmp_path: Path, crops: Crops
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number:03}.png")
    extractor = Extractor(tiny_network, layers=["conv5b", "fc6"], crops=crops, plan=PLAN, workers=0)
    (stored,) = extractor(tmp_path)
    assert isinstance(stored, VideoFeatures)
    for given in (frames, torch.from_numpy(frames)):
        found = extractor.from_frames(given, fps=25, name="mine")
        assert found.start_seconds.tolist() == pytest.approx([0.16 * n for n in range(9)]) and found.name == "mine"
        for name, array in stored.layers.items():
            assert np.array_equal(found.layers[name], array), name
    assert np.isnan(extractor.from_frames(frames).start_seconds).all()
    for wrong in (frames[0], frames.astype(np.float32), frames[:0]):
        with pytest.raises(UsageError, match=r"expected uint8 \(T, height, width, 3\), red first"):
            extractor.from_frames(wrong)
    with pytest.raises(ShortVideoError, match="has 7 frames and one clip needs 8"):
        extractor.from_frames(frames[:7])
