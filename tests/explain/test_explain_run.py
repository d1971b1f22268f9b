"""`explain`: moving pictures, sheets, strongest clips and filters for real files, with times, and failures listed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from c3dvideo import C3D, extract
from c3dvideo.errors import UsageError
from c3dvideo.explain.explain_run import explain
from c3dvideo.explain.pictures import overlay, signed
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video

Write = Callable[..., Path]


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    """Three videos of 40 frames and a broken one."""
    for seed in range(3):
        moving_square(tmp_path / f"videos/sub/{seed} #'%.mp4", seed=seed)
    (tmp_path / "videos/broken.mp4").write_bytes(b"nothing")
    return tmp_path / "videos"


def frames_of(path: Path) -> list[np.ndarray]:
    with open_video(path, channel_order="rgb") as video:
        return [frame.pixels.copy() for frame in video.frames()]


def test_a_video_beside_its_maps(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    notes: list[str] = []
    done = explain(
        [videos],
        tmp_path / "out",
        methods=["gradcam", "guided"],
        weights=tiny_network,
        layer="conv3b",
        note=notes.append,
    )
    assert Path(done.videos[0].files["gradcam"]).name == "0 #'%.mp4.gradcam.conv3b.best.mp4"
    assert Path(done.videos[0].files["guided sheet"]).name == "0 #'%.mp4.guided.best.png"
    assert any(note.startswith("5 classes, those that the weights were trained on") for note in notes)
    assert [failure.name for failure in done.failures] == ["broken.mp4"]
    assert [video.name for video in done.videos] == [f"sub/{seed} #'%.mp4" for seed in range(3)]
    video = done.videos[0]
    # 40 frames are two clips of the tiny network at the default stride of 16, and three starts fit.
    assert [(clip.start_frame, clip.start_seconds) for clip in video.clips] == [
        (start, pytest.approx(start / 25)) for start in (0, 16, 32)
    ]
    assert [clip.end_seconds for clip in video.clips] == pytest.approx([0.32, 0.96, 1.6])
    assert {clip.label for clip in video.clips} <= set("abcde")
    assert set(video.files) == {"gradcam", "gradcam sheet", "guided", "guided sheet"}
    pictures = frames_of(Path(video.files["gradcam"]))
    assert len(pictures) == 3 * 8
    assert pictures[0].shape == (2 * 32 + 24, 4 * 32, 3)
    assert all(Path(path).stat().st_size > 500 for path in video.files.values())


def test_other_classes_and_layers_have_files_of_their_own(
    videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_network, "classes", ("a/b", "a_b_0", "best", "d", "e"))
    names = {
        Path(path).name
        for target in (None, "a/b", "a_b_0", "best", 3)
        for layer in ("conv3b", "conv4b")
        for path in explain(
            [videos / "sub/0 #'%.mp4"], tmp_path / "out", weights=tiny_network, target=target, layer=layer
        )
        .videos[0]
        .files.values()
    }
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    assert len(names) == 2 * 2 * 5
    assert "0 #'%.mp4.gradcam.conv4b.a_b~0.mp4" in names and "0 #'%.mp4.gradcam.conv4b.d.png" in names


def test_the_strongest_clips_of_a_collection(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    """From the videos, and from features that hold the layer: the same clips, with times."""
    (videos / "broken.mp4").unlink()
    plan = ClipPlan(clip_length=8, stride_frames=8)
    features = tmp_path / "features"
    extract([videos], features, weights=tiny_network, layers=["conv5b"], plan=plan, workers=0)
    methods = ["units", "deconvolution"]
    units = [1, 4]
    stored = explain([features], tmp_path / "a", methods=methods, weights=tiny_network, units=units, n_clips=3)
    assert stored.failures == ()
    found = {unit.unit: [(clip.name, clip.start_frame) for clip in unit.clips] for unit in stored.units}
    activations = [clip.activation for unit in stored.units for clip in unit.clips[:1]]
    assert found
    assert min(activations) > 0
    for unit in stored.units:
        assert [clip.activation for clip in unit.clips] == sorted((c.activation for c in unit.clips), reverse=True)
        assert unit.clips[0].start_seconds == pytest.approx(unit.clips[0].start_frame / 25)
        assert len(frames_of(Path(unit.files["deconvolution"]))) == 8 * len(unit.clips)
        assert Path(unit.files["units"]).stat().st_size > 500
    chosen = explain([videos], tmp_path / "b", methods=["units"], weights=tiny_network)
    assert 1 <= len(chosen.units) <= 4


def test_features_that_do_not_fit_are_refused(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    (videos / "broken.mp4").unlink()
    extract([videos], tmp_path / "f", weights=tiny_network, layers=["fc6"], plan=ClipPlan(clip_length=8), workers=0)
    with pytest.raises(UsageError, match="extract conv5b too"):
        explain([tmp_path / "f"], tmp_path / "out", methods=["units"], weights=tiny_network)
    other = C3D(**tiny_network.architecture).eval()
    other.profile, other.mean_volume = tiny_network.profile, tiny_network.mean_volume
    with pytest.raises(UsageError, match="other settings"):
        explain([tmp_path / "f"], tmp_path / "out", methods=["units"], weights=other, layer="fc6")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["magic"]}, "choose among"),
        ({"methods": []}, "choose among"),
        ({"target": "z"}, "there is no class"),
        ({"layer": "fc6"}, "conv5b"),
        ({"methods": ["units"], "units": [99]}, "0 to 7"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    options: dict[str, object], message: str, videos: Path, tmp_path: Path, tiny_network: C3D
) -> None:
    with pytest.raises(UsageError, match=message):
        explain([videos], tmp_path / "out", weights=tiny_network, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no video"):
        explain([], tmp_path / "out", weights=tiny_network)


def test_the_first_layer_is_a_moving_picture(tmp_path: Path, tiny_network: C3D) -> None:
    done = explain([], tmp_path, methods=["filters"], weights=tiny_network)
    with Image.open(done.filters or "") as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        assert picture.size[0] == picture.size[1]


def test_heat_maps_and_signed_pictures() -> None:
    frames = np.full((2, 4, 6, 3), 200, np.uint8)
    maps = np.zeros((2, 4, 6), np.float32)
    maps[:, 1, 2] = 1
    drawn = overlay(frames, maps)
    assert drawn[0, 1, 2].tolist() != drawn[0, 0, 0].tolist()
    assert len(set(map(tuple, drawn[0].reshape(-1, 3).tolist()))) == 2
    values = np.zeros((3, 2, 4, 6), np.float32)
    assert np.unique(signed(values, "rgb")).tolist() == [127]
    values[0] = 1
    assert signed(values, "bgr")[0, 0, 0].tolist() == [127, 127, 255]


def test_the_command(
    tmp_path: Path, moving_square: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from c3dvideo.cli import main

    video = moving_square(tmp_path / "a.mp4", n_frames=16)
    monkeypatch.setattr(sys, "argv", ["c3dvideo", "explain", str(video), "--out", str(tmp_path / "o"), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    document = json.loads(capsys.readouterr().out)
    (explained,) = document["videos"]
    assert explained["clips"][0]["end_seconds"] == pytest.approx(0.64)
    assert frames_of(Path(explained["files"]["gradcam"]))[0].shape == (248, 448, 3)
