"""Generated people: labels that tell the truth about what is drawn, parts that lie where they are seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from c3dvideo import synthetic
from c3dvideo.synthetic import PEOPLE_TASKS, Scene, draw_people, render, render_parts
from c3dvideo.synthetic.figures import PARTS
from c3dvideo.synthetic.people import SHOTS, _Stage


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_people(seed=1, index=index) for index in range(80)]


def parts_shown(scene: Scene) -> set[str]:
    """Everything painted on some sprite, hidden or not."""
    return {PARTS[number] for number in np.unique(scene.parts)}


def seen(scene: Scene) -> np.ndarray:
    """Share of the pixels of a frame that show each part, one number a part."""
    shown = render_parts(scene, height=56, width=56, frames=slice(4, 5))
    return np.bincount(shown.flatten().numpy(), minlength=len(PARTS)) / shown.numel()


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    first, again, other = (draw_people(seed=4, index=index) for index in (9, 9, 10))
    assert first.labels == again.labels and np.array_equal(first.sprites, again.sprites)
    assert np.array_equal(first.movement.objects, again.movement.objects)
    clips = render([first, other], height=48, width=48)
    assert clips.shape == (2, 3, 16, 48, 48) and clips.dtype == torch.uint8
    assert not clips[0].equal(clips[1])


def test_every_class_of_every_task_occurs_and_no_other(scenes: list[Scene]) -> None:
    for task, names in PEOPLE_TASKS.items():
        found = {scene.labels[task] for scene in scenes if task in scene.labels}
        assert found == set(names), task


def test_labels_name_what_is_painted(scenes: list[Scene]) -> None:
    for scene in scenes:
        parts, labels = parts_shown(scene), scene.labels
        assert ("flame" in parts) == (labels["table"] == "candles")
        if labels["people"] == "one":
            assert ("hand" in parts) == (labels.get("touch") != "no hand")
            assert ("beard" in parts) == (labels.get("beard", "none") != "none")
            assert ("mouth" in parts) == (labels["view"] != "behind")


def test_a_nearer_shot_shows_a_larger_head(scenes: list[Scene]) -> None:
    head = [PARTS.index(part) for part in ("skin", "hair", "beard", "eye", "mouth")]
    size = {
        shot: np.mean([seen(scene)[head].sum() for scene in scenes if scene.labels["shot"] == shot]) for shot in SHOTS
    }
    assert size["close-up"] > size["face"] > size["bust"] > size["wide"] > 0


def test_parts_lie_where_the_picture_changes(scenes: list[Scene]) -> None:
    """A flame is brighter than the rest of its frame; a mask in the wrong place would not be."""
    checked = 0
    for scene in [scene for scene in scenes if scene.labels["table"] == "candles"]:
        clip = render([scene], height=112, width=112)[0, 0, 4].float()
        flame = render_parts(scene, height=112, width=112, frames=slice(4, 5))[0] == PARTS.index("flame")
        if flame.sum() > 12:
            assert clip[flame].mean() > clip[~flame].mean()
            checked += 1
    assert checked > 3


def test_a_gesture_of_any_frequency_visits_the_same_phases() -> None:
    for number in range(40):
        stage = _Stage(np.random.default_rng([2, number]), 16)
        phase, labels = stage._gesture("circle")
        start = np.arctan2(phase[0, 1], phase[0, 0])
        sixteenths = (np.arctan2(phase[:, 1], phase[:, 0]) - start) / (2 * np.pi / 16)
        assert np.allclose(sixteenths, np.round(sixteenths), atol=1e-6)
        assert sorted(np.round(sixteenths).astype(int) % 16) == list(range(16))
        turned = np.unwrap(np.arctan2(phase[:, 1], phase[:, 0]))
        assert np.sign(turned[-1] - turned[0]) == {"clockwise": 1, "anticlockwise": -1}[labels["rotation"]]


def test_nothing_else_keeps_time_when_the_order_is_asked(scenes: list[Scene]) -> None:
    """Heads and bodies then jump about independently: their places in frames that follow are not correlated."""
    asked = [scene for scene in scenes if "frequency" in scene.labels]
    assert len(asked) > 10
    steps, spread = [], []
    for scene in asked:
        heads = scene.movement.objects[:2, :, 0] + scene.movement.camera[:, 0]
        centred = heads - heads.mean(axis=1, keepdims=True)
        steps.append((centred[:, 1:] * centred[:, :-1]).sum())
        spread.append((centred**2).sum())
    assert abs(sum(steps) / sum(spread)) < 0.25


def test_people_as_files(tmp_path: Path) -> None:
    table = synthetic.synthesize(tmp_path, n_clips=3, task="touch", height=48, width=48)
    header, *rows = table.read_text().splitlines()
    assert header.startswith("path,label,seed,index,shot,people,touch")
    assert len(rows) == 3 and all(row.split(",")[1] in PEOPLE_TASKS["touch"] for row in rows)
