"""Predict: the mean over clips, the timeline, probes, and what cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.errors import UsageError
from c3dvideo.features.extract import extract
from c3dvideo.features.store import descriptor, read_features
from c3dvideo.probing.descriptors import Part
from c3dvideo.probing.predict import predict
from c3dvideo.probing.probe import Probe
from c3dvideo.video.clips import ClipPlan

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=8)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    for index, name in enumerate(["a.mp4", "sub/b.mp4"]):
        moving_square(tmp_path / "videos" / name, n_frames=17 + 9 * index, height=48, width=64, seed=index)
    return tmp_path / "videos"


def test_a_video_is_the_mean_of_its_clips(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    extract([videos], tmp_path / "out", weights=tiny_network, layers=["prob"], plan=PLAN)
    stored = read_features(tmp_path / "out" / "sub" / "b.mp4.npz").layers["prob"]
    found = predict([videos], weights=tiny_network, plan=PLAN, top=3)
    assert [prediction.name for prediction in found.predictions] == ["a.mp4", "sub/b.mp4"]
    prediction = found.predictions[1]
    mean = stored.mean(axis=0)
    order = np.argsort(-mean)
    assert [rank.label for rank in prediction.top] == ["abcde"[index] for index in order[:3]]
    np.testing.assert_allclose([rank.score for rank in prediction.top], mean[order[:3]], rtol=1e-6)
    assert [clip.label for clip in prediction.timeline] == ["abcde"[index] for index in stored.argmax(axis=1)]
    np.testing.assert_allclose([clip.score for clip in prediction.timeline], stored.max(axis=1), rtol=1e-6)
    assert [(clip.start_frame, clip.end_frame) for clip in prediction.timeline] == [(0, 8), (8, 16), (16, 24)]
    assert [(clip.start_seconds, clip.end_seconds) for clip in prediction.timeline] == [
        (pytest.approx(0.0), pytest.approx(0.32)),
        (pytest.approx(0.32), pytest.approx(0.64)),
        (pytest.approx(0.64), pytest.approx(0.96)),
    ]
    json.dumps(found.to_dict())


def test_views_are_averaged_and_nameless_classes_are_numbered(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    tiny_network.classes = ()
    extract([videos], tmp_path / "out", weights=tiny_network, layers=["prob"], plan=PLAN, crops="five")
    stored = read_features(tmp_path / "out" / "a.mp4.npz").layers["prob"]
    (prediction, _) = predict([videos], weights=tiny_network, plan=PLAN, crops="five", top=9).predictions
    assert sorted(rank.label for rank in prediction.top) == ["0", "1", "2", "3", "4"]
    np.testing.assert_allclose(prediction.top[0].score, stored.mean(axis=(0, 1)).max(), rtol=1e-6)


def test_a_clip_never_ends_after_its_video(videos: Path, tiny_network: C3D) -> None:
    plan = ClipPlan(clip_length=8, stride_frames=8, tail="repeat_last")
    (prediction, _) = predict([videos], weights=tiny_network, plan=plan).predictions
    assert prediction.timeline[-1].end_frame == 17
    assert prediction.timeline[-1].end_seconds == pytest.approx(17 / 25)


def test_a_frame_folder_has_no_seconds(tmp_path: Path, tiny_network: C3D) -> None:
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for index in range(8):
        Image.fromarray(np.full((40, 50, 3), 20 * index, np.uint8)).save(tmp_path / "frames" / f"{index:06d}.jpg")
    (prediction,) = predict([tmp_path / "frames"], weights=tiny_network).predictions
    (clip,) = prediction.timeline
    assert (clip.start_frame, clip.end_frame, clip.start_seconds, clip.end_seconds) == (0, 8, None, None)
    assert "NaN" not in json.dumps(clip.__dict__)


def test_bad_videos_are_listed(videos: Path, tiny_network: C3D) -> None:
    (videos / "bad.mp4").write_text("not a video")
    found = predict([videos], weights=tiny_network, plan=PLAN)
    assert len(found.predictions) == 2
    assert [(failure.name, failure.stage) for failure in found.failures] == [("bad.mp4", "decode")]


def make_probe(width: int, *layers: str, **settings: object) -> Probe:
    generator = np.random.default_rng(0)
    return Probe(
        classes=("still", "moving", "both"),
        coefficients=generator.normal(size=(3, width * len(layers))),
        intercepts=generator.normal(size=3),
        parts=tuple(Part(layer, width, dict(settings)) for layer in layers),
        penalty=1.0,
    )


def test_a_probe_scores_the_descriptor(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    extract([videos], tmp_path / "out", weights=tiny_network, layers=["fc6", "fc7"], plan=PLAN)
    layers = read_features(tmp_path / "out" / "a.mp4.npz").layers
    probe = make_probe(16, "fc7", "fc6")
    probe.save(tmp_path / "probe.npz")
    expected = probe.scores(np.concatenate([descriptor(layers["fc7"]), descriptor(layers["fc6"])])[None])[0]
    for given in (probe, tmp_path / "probe.npz"):
        (prediction, _) = predict([videos], weights=tiny_network, probe=given, plan=PLAN, top=3).predictions
        assert prediction.top[0].label == probe.classes[int(expected.argmax())]
        np.testing.assert_allclose([rank.score for rank in prediction.top], np.sort(expected)[::-1], rtol=1e-5)
    clip = np.concatenate([descriptor(layers["fc7"][:1]), descriptor(layers["fc6"][:1])])[None]
    assert prediction.timeline[0].score == pytest.approx(probe.scores(clip).max(), rel=1e-5)


def test_a_probe_of_other_features_is_refused(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    settings = dict(extract([videos], tmp_path / "out", weights=tiny_network, plan=PLAN, pool="mean").settings)
    predict([videos], weights=tiny_network, probe=make_probe(16, "fc6", **settings), plan=PLAN)
    with pytest.raises(UsageError, match=r"plan\.stride_frames is 8 there and 4 here"):
        plan = ClipPlan(clip_length=8, stride_frames=4)
        predict([videos], weights=tiny_network, probe=make_probe(16, "fc6", **settings), plan=plan)
    with pytest.raises(UsageError, match=r"fitted on fc6 \(4096 numbers\), these features are fc6 \(16 numbers\)"):
        predict([videos], weights=tiny_network, probe=make_probe(4096, "fc6"), plan=PLAN)
    with pytest.raises(UsageError, match="the probe was also fitted on idt, tables beside its features"):
        predict([videos], weights=tiny_network, probe=make_probe(16, "fc6", "idt"), plan=PLAN)


def test_the_plan_and_the_crops_are_those_of_the_probe(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    plan = ClipPlan(clip_length=8, stride_frames=4)
    settings = extract([videos], tmp_path / "out", weights=tiny_network, plan=plan, crops="five").settings
    probe = make_probe(16, "fc6", **settings)

    def starts(**options: Any) -> list[int]:
        (prediction, _) = predict([videos], weights=tiny_network, probe=probe, **options).predictions
        return [clip.start_frame for clip in prediction.timeline]

    assert starts() == [0, 4, 8]
    assert starts(plan=plan, crops="five") == [0, 4, 8]
    with pytest.raises(UsageError, match=r"plan.stride_frames is 4 there and 8 here"):
        starts(plan_changes={"stride_frames": 8})
    with pytest.raises(UsageError, match=r"crops is 'five' there and 'ten' here"):
        starts(crops="ten")


def test_single_values_of_the_plan_can_be_changed(videos: Path, tiny_network: C3D) -> None:
    changes = {"clip_length": 8, "stride_frames": 3}
    (prediction, _) = predict([videos], weights=tiny_network, plan_changes=changes).predictions
    assert [clip.start_frame for clip in prediction.timeline] == [0, 3, 6, 9]


def test_where_the_classes_come_from_is_noted(videos: Path, tiny_network: C3D) -> None:
    notes: list[str] = []
    predict([videos / "a.mp4"], weights=tiny_network, plan=PLAN, note=notes.append)
    assert notes[1] == (
        "5 classes, those that the weights were trained on: a, b, c and 2 more; choose others with `probe=`"
    )
    predict([videos / "a.mp4"], note=notes.append)
    assert notes[3].startswith("8 classes of generated clips, those that the weights were trained on: rolling ball, ")
