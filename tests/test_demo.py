"""The demo: from generated or given videos to one page that needs nothing else, and honest about what failed."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo import demo as module
from c3dvideo.demo import demo
from c3dvideo.errors import UsageError
from c3dvideo.evaluation.report import Page, Tile
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
    real = module.write_dataset
    classes = ("rolling ball", "waving flag")

    def small(out: Path, *, clips_per_class: int, seed: int) -> Path:
        return real(out, classes=classes, clips_per_class=clips_per_class, seed=seed, height=64, width=80, n_frames=20)

    monkeypatch.setattr(module, "write_dataset", small)
    said: list[tuple[str, str]] = []
    result = demo(
        tmp_path / "out", weights=weights, clips_per_class=4, say=lambda step, text: said.append((step, text))
    )
    steps = ["videos", "network", "features", "probe", "neighbours", "map", "predict", "report"]
    assert [step for step, _ in said] == steps
    assert "guessing: 50%" in dict(said)["probe"]
    assert (result.n_videos, result.n_failed, result.chance) == (8, 0, 0.5)
    page = result.page.read_text()
    assert_stands_alone(page)
    assert "waving flag" in page
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
    assert "--labels-from-folders" in own.page.read_text()
    flat = demo(tmp_path / "2", videos=tmp_path / "flat", weights=weights, say=said.__setitem__)
    assert (flat.accuracy, flat.neighbour_accuracy) == (None, None)
    assert "no classes to learn" in said["probe"]
    assert "the two most alike are" in said["neighbours"]
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


def test_names_are_escaped_on_the_page() -> None:
    page = Page("<b>")
    page.heading("a & b")
    page.bars({"<script>": 1.0, "b": -1.0})
    page.row([Tile(b"x", '"><img src=x>')])
    text = page.html()
    assert "<script>" not in text
    assert "<img src=x>" not in text
    assert "width:100.0%" in text
    assert "width:0.0%" in text


def test_a_thumbnail_moves_and_keeps_the_shape(moving_square: Video, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    data = moving_thumbnail(moving_square(tmp_path / "a.mp4", n_frames=40), height=48)
    with Image.open(BytesIO(data)) as picture:
        assert (picture.size, picture.n_frames) == ((64, 48), 10)
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(5)
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - first).max() > 60
