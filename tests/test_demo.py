"""The demo: from generated or given videos to one page that needs nothing else, and honest about what failed."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.demo import demo, demo_run
from c3dvideo.demo.demo_page import DemoPage, Tile, bars, render_page
from c3dvideo.errors import UsageError
from c3dvideo.video.thumbnail import moving_thumbnail

Video = Callable[..., Path]


@pytest.fixture
def weights(narrow_network: C3D, tmp_path: Path) -> Path:
    narrow_network.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def assert_stands_alone(page: str) -> None:
    """No address but data: nothing is fetched, nothing lies beside it."""
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page
    assert "url(" not in page


def test_generated_videos_end_in_a_page(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = demo_run.write_dataset
    classes = ("rolling ball", "waving flag")

    def small(out: Path, *, clips_per_class: int, seed: int) -> Path:
        return real(out, classes=classes, clips_per_class=clips_per_class, seed=seed, height=64, width=80, n_frames=20)

    monkeypatch.setattr(demo_run, "write_dataset", small)
    said: list[tuple[str, str]] = []
    result = demo(
        tmp_path / "out", weights=weights, clips_per_class=4, say=lambda step, text: said.append((step, text))
    )
    steps = ["videos", "network", "features", "probe", "neighbours", "map", "predict", "report"]
    assert [step for step, _ in said] == steps
    assert "chance level 50%" in dict(said)["probe"] and "95% interval" in dict(said)["probe"]
    assert result.interval is not None and result.interval[0] <= result.accuracy <= result.interval[1]
    assert (result.n_videos, result.n_failed, result.chance) == (8, 0, 0.5)
    page = result.page.read_text()
    assert_stands_alone(page)
    assert "waving flag" in page
    assert "These videos are generated." in page
    assert "the last layer" not in page, "these weights name other classes than the default weights"
    assert f"c3dvideo probe fit {tmp_path / 'out' / 'features'} --labels" in page
    assert (tmp_path / "out" / "probe.npz").exists()


def test_a_folder_per_class_gets_a_classifier_and_a_flat_one_does_not(
    weights: Path, moving_square: Video, tmp_path: Path
) -> None:
    for index in range(8):
        moving_square(tmp_path / "own" / "ab"[index % 2] / f"{index}.mp4", n_frames=18, seed=index)
        moving_square(tmp_path / "flat" / f"{index}.mp4", n_frames=18, seed=index)
    said: dict[str, str] = {}
    own = demo(tmp_path / "1", videos=tmp_path / "own", weights=weights, say=said.__setitem__)
    assert own.accuracy is not None
    assert own.neighbour_accuracy is not None
    page = own.page.read_text()
    assert "--labels-from-folders" in page
    assert "chance level (2 classes)" in page and "95% interval of the accuracy is" in page
    assert "generated" not in page
    flat = demo(tmp_path / "2", videos=tmp_path / "flat", weights=weights, say=said.__setitem__)
    assert (flat.accuracy, flat.neighbour_accuracy) == (None, None)
    assert "no classes to learn" in said["probe"]
    assert "the two most similar videos are" in said["neighbours"]
    assert_stands_alone(flat.page.read_text())


def test_a_class_of_one_video_leaves_out_the_classifier_and_says_why(
    weights: Path, moving_square: Video, tmp_path: Path
) -> None:
    for name in ("a/1", "a/2", "b/3"):
        moving_square(tmp_path / "own" / f"{name}.mp4", n_frames=18)
    said: dict[str, str] = {}
    result = demo(tmp_path / "out", videos=tmp_path / "own", weights=weights, say=said.__setitem__)
    assert result.accuracy is None
    assert "no classifier: class 'b' has videos of one source only" in said["probe"]


def test_broken_videos_are_counted_and_too_few_are_refused(weights: Path, moving_square: Video, tmp_path: Path) -> None:
    for index in range(3):
        moving_square(tmp_path / "own" / f"{index}.mp4", n_frames=10, seed=index)
    (tmp_path / "own" / "broken.mp4").write_bytes(b"no video")
    assert demo(tmp_path / "out", videos=tmp_path / "own", weights=weights).n_failed == 1
    (tmp_path / "own" / "2.mp4").unlink()
    with pytest.raises(UsageError, match="2 videos that can be read; the demo needs three"):
        demo(tmp_path / "out2", videos=tmp_path / "own", weights=weights)


def test_the_page_of_the_default_weights_states_their_limits(
    weights: Path, moving_square: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = demo_run.write_dataset

    def small(out: Path, *, clips_per_class: int, seed: int) -> Path:
        return real(out, clips_per_class=1, seed=seed, height=64, width=80, n_frames=16)

    monkeypatch.setattr(demo_run, "write_dataset", small)
    monkeypatch.setattr(demo_run, "note_on_default_weights", lambda settings: "a note")
    page = demo(tmp_path / "out", weights=weights).page.read_text()
    assert "These videos are generated and their classes are those that the last layer of the default network" in page
    assert "trained on still pictures and generated clips" in page and "<code>--weights sports1m</code>" in page


def test_names_are_escaped_on_the_page() -> None:
    tile = Tile(picture=b"x", caption='"><img src=x>')
    page = DemoPage(
        title="<b>",
        introduction=["a & b"],
        points=np.array([[0.0, 0], [1, 1], [2, 0]]),
        names=["<script>1", "b", "c"],
        labels=["<script>2", "b", "b"],
        classes=["<script>3", "b"],
        confusion=[[1, 0], [0, 2]],
        example=tile,
        scores={"<script>4": 1.0, "b": -1.0},
        neighbours=[[tile, tile]],
        commands=["<script>5"],
    )
    text = render_page(page)
    assert "<script>" not in text
    assert "<img src=x>" not in text
    assert [f"&lt;script&gt;{number}" in text for number in range(1, 6)] == [True] * 5
    assert_stands_alone(text)


def test_bars_start_at_zero_and_negative_ones_point_left() -> None:
    no, yes, weak = bars({"no": -3.0, "yes": 1.0, "weak": -1.0})
    assert (no.start, no.width, no.zero) == (0.0, 75.0, 75.0)
    assert (yes.start, yes.width) == (75.0, 25.0)
    assert (weak.start, weak.width) == (50.0, 25.0)
    assert [(bar.start, bar.width, bar.zero) for bar in bars({"a": -2.0, "b": -1.0})] == [(0, 100, 100), (50, 50, 100)]
    assert [(bar.start, bar.width, bar.zero) for bar in bars({"a": 2.0, "b": 0.0})] == [(0, 100, 0), (0, 0, 0)]
    assert bars({}) == []


def test_many_classes_are_a_list_of_confusions_and_every_mark_differs() -> None:
    classes = [f"class {index:02d}" for index in range(50)]
    confusion = np.eye(50, dtype=int) * 3
    confusion[7, 9] = 2
    points = np.random.default_rng(0).normal(size=(50, 2))
    page = DemoPage(
        title="t", introduction=[], points=points, names=classes, labels=classes, classes=classes, confusion=confusion
    )
    text = render_page(page)
    assert "class 07 &rarr; class 09" in text
    assert "Confusion matrix" not in text
    marks = re.findall(r'<path d="([^"]+)" fill="([^"]+)" transform', text)
    assert len(marks) == len(set(marks)) == 50
    assert all(np.isfinite(float(number)) for pair in re.findall(r"translate\((\S+) (\S+)\)", text) for number in pair)


def test_a_thumbnail_moves_and_keeps_the_shape(moving_square: Video, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    data = moving_thumbnail(moving_square(tmp_path / "a.mp4", n_frames=40), height=48)
    with Image.open(BytesIO(data)) as picture:
        assert (picture.size, picture.n_frames) == ((64, 48), 10)
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(5)
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - first).max() > 60
