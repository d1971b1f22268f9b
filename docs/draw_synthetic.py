"""Draw the contact sheets of docs/synthetic.md: one strip of six frames per class.

python docs/draw_synthetic.py
"""

from colorsys import hsv_to_rgb
from itertools import count
from pathlib import Path

import numpy as np

from c3dvideo import synthetic
from c3dvideo.plots import draw_grid

FIGURES = Path(__file__).parent / "figures"


def strip(scene: synthetic.Scene, *, height: int, width: int) -> np.ndarray:
    """Six frames of a scene side by side, uint8 (height, 6 * width, 3)."""
    clip = synthetic.render([scene], height=height, width=width)[0].permute(1, 2, 3, 0).numpy()
    return np.concatenate([clip[index] for index in np.linspace(0, len(clip) - 1, 6).astype(int)], axis=1)


def first_scene(task: str, name: str) -> synthetic.Scene:
    """The first clip of seed 0 with this label that shows it well: few other labels, a thing of some size."""
    for index in count():
        scene = synthetic.draw_scene(seed=0, index=index)
        motions = set(scene.labels) & set(synthetic.MOTION_TASKS)
        radius = np.exp(scene.movement.objects[0, :, 3]).min()
        if scene.labels.get(task) == name and len(motions) <= 2 and radius > 0.25:
            return scene
    raise AssertionError


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    motions = [(task, name) for task, names in synthetic.MOTION_TASKS.items() for name in names]
    draw_grid(
        FIGURES / "synthetic_motion.png",
        [strip(first_scene(task, name), height=64, width=64) for task, name in motions],
        captions=[f"{task}: {name}" for task, name in motions],
        columns=3,
    )
    appearances = [(task, name) for task in ("scene", "texture", "shape", "material") for name in synthetic.TASKS[task]]
    draw_grid(
        FIGURES / "synthetic_appearance.png",
        [strip(first_appearance(task, name), height=64, width=64)[:, :64] for task, name in appearances],
        captions=[name for _, name in appearances],
        columns=8,
    )
    draw_grid(
        FIGURES / "synthetic_everyday.png",
        [
            strip(synthetic.everyday_scene(name, seed=0, index=index), height=72, width=96)
            for name in synthetic.EVERYDAY
            for index in range(2)
        ],
        captions=[name for name in synthetic.EVERYDAY for _ in range(2)],
        columns=2,
    )
    draw_people()
    draw_maps()


def draw_maps() -> None:
    """Single frames above what they show and where that is going: hue is the way, red to the right; grey is still."""
    parts = np.uint8(
        [[0, 0, 0], [90, 90, 90], [235, 190, 160], [120, 70, 30], [40, 90, 230], [220, 30, 60], [80, 110, 60],
         [250, 230, 120], [60, 210, 210], [110, 60, 130], [255, 150, 0]]
    )  # fmt: skip
    hues = [hsv_to_rgb(way / 8, 0.85, 0.95) for way in range(8)]
    moves = np.round(255 * np.array([(0.25, 0.25, 0.25), *hues])).astype(np.uint8)
    scenes = [synthetic.draw_scene(seed=0, index=index) for index in (3, 5)]
    scenes += [synthetic.draw_people(seed=0, index=index) for index in (1, 7)]
    pictures = [map_strip(scene, parts, moves) for scene in scenes]
    draw_grid(FIGURES / "synthetic_maps.png", pictures, captions=["", "", "", ""], columns=4)


def map_strip(scene: synthetic.Scene, parts: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Frame 8, its parts and its moves in these colours, one above the other: uint8 (288, 96, 3)."""
    chosen, size = slice(8, 9), {"height": 96, "width": 96}
    frame = synthetic.render([scene], **size)[0, :, 8].permute(1, 2, 0).numpy()
    shown, going = synthetic.render_maps(scene, frames=chosen, **size)[:, 0].numpy()
    return np.concatenate([frame, parts[shown], moves[going]])


def draw_people() -> None:
    """Two frames of a clip for every class that shows, each clip once."""
    people = [
        (task, name)
        for task in ("shot", "touch", "tool", "hair", "beard", "view")
        for name in synthetic.PEOPLE_TASKS[task]
    ]
    used: set[int] = set()
    draw_grid(
        FIGURES / "synthetic_people.png",
        [strip(first_people(task, name, used), height=96, width=96)[:, 192:384] for task, name in people],
        captions=[f"{task}: {name}" for task, name in people],
        columns=6,
    )


def first_people(task: str, name: str, used: set[int]) -> synthetic.Scene:
    """The first unused people of seed 0 with this label, near enough to see it and in enough light."""
    for index in count():
        scene = synthetic.draw_people(seed=0, index=index)
        near = task == "shot" or scene.labels["shot"] == "face"
        clear = scene.light[0] > 0.8 and scene.noise < 5 and scene.labels["table"] == "none" and index not in used
        if scene.labels.get(task) == name and near and clear:
            used.add(index)
            return scene
    raise AssertionError


def first_appearance(task: str, name: str) -> synthetic.Scene:
    """The first clip of seed 0 with this appearance and an object large enough to show it."""
    for index in count():
        scene = synthetic.draw_scene(seed=0, index=index)
        x, y, _, size = scene.movement.objects[0, 0, :4]
        if scene.labels.get(task) == name and np.exp(size) > 0.4 and max(abs(x), abs(y)) < 0.5:
            return scene
    raise AssertionError


if __name__ == "__main__":
    main()
