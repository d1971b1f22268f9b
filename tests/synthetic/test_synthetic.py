"""Generated clips: the same for the same seed, and labels that no frame and no bag of frames gives away."""

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import synthetic
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.synthetic.motions import MOTION_TASKS, SCENARIOS, Movement, Order, draw_order, move
from c3dvideo.synthetic.rendering import render
from c3dvideo.synthetic.scenes import scene_labels
from c3dvideo.synthetic.textures import FAMILIES, texture_map
from c3dvideo.video.decode import open_video

PERMUTED = {
    "cycle": "frequency",
    "repeat": "periodicity",
    "camera path": "camera path",
    "mover": "mover",
    "movers": "movers",
}
REVERSED = ("glide", "strike", "hide")


def moved(scenario: str, order: Order, number: int) -> Movement:
    return move(scenario, order, np.random.default_rng([7, number]), n_frames=16, n_objects=2)


def states(movement: Movement) -> np.ndarray:
    """One row a frame with everything that a renderer gets to know of it, angles as directions, rounded."""
    tracks = movement.objects
    turning = tracks[..., [2, 6]]
    parts = [tracks[..., [0, 1, 3, 4, 5]], np.cos(turning), np.sin(turning)]
    rows = np.concatenate([part.transpose(1, 0, 2).reshape(16, -1) for part in parts] + [movement.camera], axis=1)
    return np.round(rows, 6) + 0.0


def without_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter is drawn anew in every frame: exchangeable by definition. Without it, the rest can be compared exactly."""
    monkeypatch.setattr("c3dvideo.synthetic.motions._jitter", lambda rng, size: np.zeros(size))


@pytest.mark.parametrize("scenario", REVERSED)
def test_flipping_every_label_plays_the_clip_backwards(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_jitter(monkeypatch)
    for number in range(40):
        order = draw_order(scenario, np.random.default_rng([3, number]))
        flipped = {task: next(name for name in MOTION_TASKS[task] if name != order[task]) for task in order}
        forwards, backwards = states(moved(scenario, order, number)), states(moved(scenario, flipped, number))
        assert np.allclose(forwards, backwards[::-1], atol=1e-5), (scenario, order)


@pytest.mark.parametrize(("scenario", "task"), PERMUTED.items())
def test_every_class_visits_the_same_states_in_another_order(
    scenario: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_jitter(monkeypatch)
    for number in range(40):
        base = draw_order(scenario, np.random.default_rng([3, number]))
        bags = [states(moved(scenario, base | {task: name}, number)) for name in MOTION_TASKS[task]]
        sequences = {bag.tobytes() for bag in bags}
        assert len(sequences) == len(bags), "the labels must differ in order"
        for bag in bags[1:]:
            assert np.allclose(_sorted(bags[0]), _sorted(bag), atol=1e-5), (scenario, base)


def _sorted(rows: np.ndarray) -> np.ndarray:
    rows = np.round(rows, 4) + 0.0
    return rows[np.lexsort(rows.T)]


def test_every_label_is_drawn_equally_often() -> None:
    counts: dict[str, dict[str, int]] = {}
    for index in range(3000):
        scenario = list(SCENARIOS)[index % len(SCENARIOS)]
        for task, name in draw_order(scenario, np.random.default_rng([5, index])).items():
            counts.setdefault(task, dict.fromkeys(MOTION_TASKS[task], 0))[name] += 1
    assert set(counts) == set(MOTION_TASKS)
    for task, tally in counts.items():
        total, expected = sum(tally.values()), sum(tally.values()) / len(tally)
        assert all(abs(n - expected) < 4 * np.sqrt(total * 0.25) for n in tally.values()), (task, tally)


def test_a_clip_depends_on_its_seed_and_index_only() -> None:
    alone = render([synthetic.draw_scene(seed=4, index=9)], height=48, width=48)[0]
    among = render([synthetic.draw_scene(seed=4, index=index) for index in (2, 9, 5)], height=48, width=48)[1]
    other = render([synthetic.draw_scene(seed=5, index=9)], height=48, width=48)[0]
    assert alone.shape == (3, 16, 48, 48)
    assert alone.equal(among)
    assert not alone.equal(other)


def test_labels_name_classes_of_their_tasks_and_looks_are_always_asked() -> None:
    for index in range(60):
        labels = synthetic.draw_scene(seed=0, index=index).labels
        assert all(name in synthetic.TASKS[task] for task, name in labels.items())
        assert {"scene", "texture", "shape", "colour", "material"} <= set(labels)
        assert set(labels) & set(MOTION_TASKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_fill_their_range_and_differ(family: str) -> None:
    first, second = texture_map(family, 0), texture_map(family, 1)
    assert first.min() == 0.0 and first.max() == pytest.approx(1.0)
    assert np.abs(first - second).mean() > 0.02


def test_an_odd_number_of_frames_is_refused() -> None:
    with pytest.raises(UsageError, match="n_frames is 12"):
        synthetic.draw_scene(seed=0, index=0, n_frames=12)


def glide_clips(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips that ask "horizontal", tiny and grey: uint8 (n, 16, 24, 24), and the label."""
    clips, labels, index = [], [], 0
    while len(clips) < n:
        if "horizontal" in scene_labels(seed=11, index=index):
            scene = synthetic.draw_scene(seed=11, index=index)
            clips.append(render([scene], height=24, width=24)[0].float().mean(0).numpy())
            labels.append(int(scene.labels["horizontal"] == "right"))
        index += 1
    return np.stack(clips), np.asarray(labels)


def linear_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Held-out accuracy of ridge regression on the second half."""
    features = features - features.mean(0)
    features = features / (features.std(0) + 1e-6)
    half = len(labels) // 2
    train, target = features[:half], 2.0 * labels[:half] - 1
    gram = train @ train.T + 10.0 * features.shape[1] / half * np.eye(half)
    return float((((features[half:] @ (train.T @ np.linalg.solve(gram, target))) > 0) == labels[half:]).mean())


def test_order_tells_the_direction_and_frames_do_not() -> None:
    clips, labels = glide_clips(400)
    ordered = optical_flow(clips)
    rng = np.random.default_rng(0)
    shuffled = optical_flow(np.stack([clip[rng.permutation(16)] for clip in clips]))
    one = np.stack([clip[rng.integers(16)] for clip in clips]).reshape(len(clips), -1)
    bag = np.sort(clips, axis=1).reshape(len(clips), -1)
    margin = 3 * 0.5 / np.sqrt(200)
    assert linear_accuracy(ordered, labels) > 0.5 + margin
    for control in (shuffled, one, bag):
        assert abs(linear_accuracy(control, labels) - 0.5) < margin


def optical_flow(clips: np.ndarray) -> np.ndarray:
    """One number a cell: how much brightness change goes with the horizontal gradient (least-squares flow)."""
    change = np.diff(clips, axis=1)
    slope = (np.roll(clips, -1, axis=3) - np.roll(clips, 1, axis=3))[:, :-1]
    flow = -(change * slope)[..., 1:-1].sum(axis=(1, 2))
    size = (slope**2)[..., 1:-1].sum(axis=(1, 2)) + 1e3
    total = flow.sum(axis=1, keepdims=True) / size.sum(axis=1, keepdims=True)
    return np.concatenate([total, np.sign(total), flow / size], axis=1)


def test_everyday_videos_are_real_files_with_a_table(tmp_path: Path) -> None:
    table = synthetic.write_dataset(
        tmp_path, classes=("bouncing ball", "waving flag"), clips_per_class=3, seed=1, n_frames=20, height=48, width=64
    )
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["bouncing ball"] * 3 + ["waving flag"] * 3
    assert [row["split"] for row in rows] == ["train", "train", "test"] * 2
    for row in rows:
        with open_video(tmp_path / row["path"]) as video:
            frames = [frame.pixels for frame in video.frames()]
        assert len(frames) == 20 and frames[0].shape == (48, 64, 3)
        assert not np.array_equal(frames[0], frames[10])


def test_synthesize_writes_all_labels_or_one_task(tmp_path: Path) -> None:
    everything = synthetic.synthesize(tmp_path / "all", n_clips=3, height=32, width=32)
    rows = list(csv.DictReader(everything.read_text().splitlines()))
    assert len(rows) == 3 and "label" not in rows[0] and set(synthetic.TASKS) <= set(rows[0])
    one = synthetic.synthesize(tmp_path / "one", n_clips=3, task="rotation", height=32, width=32)
    rows = list(csv.DictReader(one.read_text().splitlines()))
    assert all(row["label"] == row["rotation"] in MOTION_TASKS["rotation"] for row in rows)
    assert len(list((tmp_path / "one").glob("*.mp4"))) == 3


def test_wrong_names_and_sizes_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown everyday class: juggling"):
        synthetic.write_dataset(tmp_path, classes=("juggling",), clips_per_class=1)
    with pytest.raises(UsageError, match="unknown task: mood"):
        synthetic.synthesize(tmp_path, n_clips=1, task="mood")
    with pytest.raises(UsageError, match="multiples of 8"):
        synthetic.synthesize(tmp_path, n_clips=1, height=50)


def test_a_full_disk_raises_one_error_and_leaves_no_part_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, frames: np.ndarray, *, fps: int) -> None:
        path.write_bytes(b"half a video")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("c3dvideo.synthetic.synthetic_videos.write_video", full)
    with pytest.raises(StoreError, match="could not be written: the disk is full"):
        synthetic.write_dataset(tmp_path / "videos", clips_per_class=1, n_frames=8, height=16, width=16)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
