"""Scenes with one to three people, and hands that touch a head with or without a tool.

    scene = draw_people(seed=0, index=17)
    scene.labels                                        # {"shot": "face", "touch": "mouth", "tool": "brush", ...}

They add what generated shapes lack: faces, hair and hands, the place on the head that a hand touches, and its tool. The
labels in `PEOPLE_TASKS` can be predicted from single frames. When "frequency" or "rotation" of a hand is a label, all
other motion is independent from frame to frame, as in `motions`, so these two labels depend on frame order only.
"""

from typing import Any

import numpy as np

from c3dvideo.synthetic import figures, heads
from c3dvideo.synthetic.canvas import Sprite
from c3dvideo.synthetic.figures import BEARDS, HAIR, HAIR_COLOURS, HEAD, TOOLS, VIEWS, Person
from c3dvideo.synthetic.motions import ANGLE, SIZE, STRETCH, Movement, X, Y
from c3dvideo.synthetic.scenes import PLACES, Scene, any_map, draw_backdrop, draw_defects
from c3dvideo.synthetic.textures import Array

SHOTS = {"close-up": (0.75, 1.3), "face": (0.45, 0.75), "bust": (0.24, 0.45), "wide": (0.13, 0.24)}
"""Range of half the height of a head, in half frame heights, per shot."""

_PLACES_ON_A_HEAD = {
    "eye": (0.42, -0.1),
    "mouth": (0.0, 0.5),
    "chin": (0.15, 0.85),
    "cheek": (0.6, 0.3),
    "forehead": (0.2, -0.6),
    "top": (0.2, -1.05),
    "side": (0.95, -0.2),
}
"""Position of each place, in half heads from the middle of the head to the side and down."""

PEOPLE_TASKS: dict[str, tuple[str, ...]] = {
    "shot": tuple(SHOTS),
    "people": ("one", "two", "three"),
    "touch": (*_PLACES_ON_A_HEAD, "elsewhere", "no hand"),
    "tool": TOOLS,
    "hand from": ("right", "below", "left", "above"),
    "hair": HAIR,
    "hair colour": tuple(HAIR_COLOURS),
    "beard": BEARDS,
    "view": VIEWS,
    "mouth": ("closed", "open"),
    "eyes": ("closed", "open"),
    "table": ("none", "empty", "candles"),
}


def draw_people(*, seed: int, index: int, n_frames: int = 16) -> Scene:
    """Scene `index` of an unlimited seeded series with people; a pure function of its arguments."""
    rng = np.random.default_rng([seed, index, 77])
    stage = _Stage(rng, n_frames)
    shot = str(rng.choice(list(SHOTS), p=(0.25, 0.35, 0.3, 0.1)))
    size = np.exp(rng.uniform(*np.log(SHOTS[shot])))
    n_people = 1 if shot == "close-up" and rng.uniform() < 0.7 else int(rng.choice([1, 2, 3], p=(0.5, 0.3, 0.2)))
    person = figures.draw_person(rng)
    labels = {
        "shot": shot,
        "people": PEOPLE_TASKS["people"][n_people - 1],
        "hair": person.hair,
        "view": person.view,
    }
    if person.hair != "none":
        labels["hair colour"] = person.hair_colour
    if person.view != "behind":
        labels["beard"] = person.beard
        if shot != "wide":
            labels |= {"mouth": ("closed", "open")[person.mouth_open], "eyes": ("closed", "open")[person.eyes_open]}
    gesture = str(rng.choice(["stroke", "circle", "sweep", "still"], p=(0.4, 0.2, 0.2, 0.2)))
    asked = gesture in ("stroke", "circle") and rng.uniform() < 0.6
    if not asked:
        stage.drift()
    middle = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.35, 0.35)])
    for _ in range(n_people - 1):
        aside = rng.choice([-1, 1]) * rng.uniform(1.4, 3.2) * size
        beside = middle + np.array([aside, rng.uniform(-2.2, 0.8) * size])
        stage.put_person(figures.draw_person(rng), beside, size * rng.uniform(0.8, 1.2), moving=not asked)
    tilt, place = stage.put_person(person, middle, size, moving=not asked)
    labels["table"] = table = str(rng.choice(PEOPLE_TASKS["table"], p=(0.65, 0.1, 0.25)))
    if table != "none":
        stage.put_table(middle, size, n_candles=int(rng.integers(1, 9)) if table == "candles" else 0)
    hands = int(rng.choice([0, 1, 2], p=(0.15, 0.6, 0.25)))
    if hands == 0:
        labels["touch"] = "no hand"
    for hand in range(hands):
        found = stage.put_hand(person, place, tilt, size, gesture if hand == 0 else "still")
        if hand == 0:
            labels |= {task: name for task, name in found.items() if asked or task in PEOPLE_TASKS}
    dim = table == "candles" and rng.uniform() < 0.5
    return stage.scene(labels, dim=dim)


def people_labels(*, seed: int, index: int) -> dict[str, str]:
    """The labels of scene `index`."""
    return draw_people(seed=seed, index=index).labels


class _Stage:
    """Sprites, their parts and their tracks, from back to front."""

    def __init__(self, rng: np.random.Generator, n_frames: int) -> None:
        self.rng, self.n_frames = rng, n_frames
        self.sprites: list[Sprite] = []
        self.tracks: list[Any] = []
        self.camera = rng.choice([0.0, 0.01, 0.03]) * rng.normal(size=(n_frames, 2))

    def drift(self) -> None:
        """Add a slow, smooth motion to the camera."""
        reach = self.rng.choice([0.0, 0.05, 0.2])
        self.camera = self.camera + reach * self._wander((2,))

    def _wander(self, shape: tuple[int, ...]) -> Any:
        """Smooth curves (T, *shape) within about -1..1."""
        time = np.linspace(0, 1, self.n_frames).reshape(-1, *[1] * len(shape))
        rate, phase = self.rng.uniform(0.3, 2.5, shape), self.rng.uniform(0, 2 * np.pi, shape)
        return np.sin(2 * np.pi * rate * time + phase)

    def put(self, sprite: Sprite, place: Any, angle: Any, size: Any, stretch: Any = 0.0) -> None:
        """Add a sprite of radius `size` with its centre at `place` (T, 2); both in half frame heights."""
        track = np.zeros((self.n_frames, 7))
        track[:, [X, Y]] = place - self.camera
        track[:, ANGLE], track[:, SIZE], track[:, STRETCH] = angle, np.log(size), stretch
        self.sprites.append(sprite)
        self.tracks.append(track)

    def put_person(self, person: Person, middle: Any, size: float, *, moving: bool) -> tuple[Any, Any]:
        """Add body, head and mouth. Returns the head's angle (T,) and position (T, 2)."""
        rng = self.rng
        shiver = rng.choice([0.0, 0.02, 0.05]) * size
        place = middle + shiver * rng.normal(size=(self.n_frames, 2))
        tilt = rng.normal() * 0.25 + 0.03 * rng.normal(size=self.n_frames)
        body_place = place + np.array([rng.normal() * 0.15, 2.45]) * size
        if moving:
            place = place + rng.choice([0.0, 0.1, 0.3]) * size * self._wander((2,))
            tilt = tilt + rng.choice([0.0, 0.1, 0.25]) * self._wander(())
        self.put(figures.body(person, any_map(rng), rng), body_place, 0.3 * tilt.mean(), 2.2 * size)
        self.put(heads.head(person, rng), place, tilt, size / HEAD)
        if person.view != "behind":
            lips = _turned(np.array(heads.mouth_place(person)), tilt) * size + place
            squeeze = 0.3 * (1 - 0.4 * abs(person.turn)) * rng.uniform(0.8, 1.3)
            speech = rng.choice([0.0, 0.5]) * (self._wander(()) if moving else rng.normal(size=self.n_frames))
            self.put(heads.mouth(person, rng), lips, tilt, squeeze * person.width * size, -0.5 * speech)
        return tilt, place

    def put_table(self, middle: Any, size: float, n_candles: int) -> None:
        """Add a table below the head."""
        rng = self.rng
        reach = size * rng.uniform(1.5, 3.0)
        place = middle + np.array([rng.uniform(-0.8, 0.8) * size, rng.uniform(1.2, 2.0) * size])
        place = place + 0.005 * rng.normal(size=(self.n_frames, 2))
        self.put(figures.table(any_map(rng), n_candles, rng), place, 0.05 * rng.normal(), reach, rng.uniform(0, 0.8))

    def put_hand(self, person: Person, place: Any, tilt: Any, size: float, gesture: str) -> dict[str, str]:
        """Add an arm whose tool touches the head or a point beside it. Returns the labels of the hand."""
        rng = self.rng
        tool = str(rng.choice(TOOLS, p=(0.2, 0.25, 0.2, 0.15, 0.1, 0.1)))
        touch = str(rng.choice([*_PLACES_ON_A_HEAD, "elsewhere"], p=(0.18, 0.2, 0.1, 0.12, 0.06, 0.08, 0.14, 0.12)))
        side, angle = rng.choice([-1, 1]), rng.uniform(0, 2 * np.pi)
        if touch == "elsewhere":
            point = rng.uniform(1.5, 2.5) * np.array([np.cos(angle), np.sin(angle)])
        else:
            point = np.array(_PLACES_ON_A_HEAD[touch]) * (side * person.width, 1) + 0.06 * rng.normal(size=2)
            if touch not in ("top", "side"):
                point[0] += 0.4 * person.turn * person.width
        if rng.uniform() < 0.7:
            angle = np.arctan2(rng.uniform(0.2, 1.2), side * rng.uniform(0.2, 1.2)) + np.pi
        else:
            angle += np.pi
        phase, labels = self._gesture(gesture)
        wide = 0.35 if touch in ("top", "side", "elsewhere") else 0.15
        reach = rng.uniform(0.3, 1.2) * wide
        way = rng.uniform(0, np.pi)
        across = np.array([np.cos(way), np.sin(way)])
        swing = reach * (
            across * phase[:, :1] + (gesture == "circle") * np.array([-across[1], across[0]]) * phase[:, 1:]
        )
        track = place + size * (_turned(point, tilt) + swing)
        radius = 2.0 * size * rng.uniform(0.8, 1.25)
        wrist = angle + 0.05 * rng.normal(size=self.n_frames) + rng.uniform(0, 0.3) * phase[:, 0]
        self.put(figures.arm(person, tool, rng), track, wrist, radius)
        comes_from = int(np.round((angle + np.pi) / (np.pi / 2))) % 4
        return {"touch": touch, "tool": tool, "hand from": PEOPLE_TASKS["hand from"][comes_from], **labels}

    def _gesture(self, name: str) -> tuple[Any, dict[str, str]]:
        """Cosine and sine (T, 2) of the gesture's phase, and its motion labels."""
        rng, time = self.rng, np.arange(self.n_frames)
        if name == "still":
            return 0.1 * rng.normal(size=(self.n_frames, 2)), {}
        if name == "sweep":
            return np.stack([np.linspace(-1, 1, self.n_frames)] * 2, axis=1) * rng.choice([-1.5, 1.5]), {}
        frequency, sense = int(rng.integers(3)), int(rng.integers(2))
        turn = 2 * np.pi * (1, 3, 5)[frequency] * time / self.n_frames * (2 * sense - 1) + rng.uniform(0, 2 * np.pi)
        labels = {"frequency": ("one", "three", "five")[frequency]}
        if name == "circle":
            labels["rotation"] = ("anticlockwise", "clockwise")[sense]
        return np.stack([np.cos(turn), np.sin(turn)], axis=1), labels

    def scene(self, labels: dict[str, str], *, dim: bool) -> Scene:
        """The scene of all added sprites in front of a random backdrop. dim: candles are the only light."""
        rng = self.rng
        backdrop = draw_backdrop(rng, str(rng.choice(PLACES)))
        backdrop = backdrop * rng.uniform(0.3, 1.1)
        sprites: Array = np.stack([picture for picture, _ in self.sprites])
        if dim:
            tint = np.asarray([1.0, 0.75, 0.5], np.float32)[:, None, None] * rng.uniform(0.35, 0.9)
            backdrop = backdrop * tint
            for sprite, (_, parts) in zip(sprites, self.sprites, strict=True):
                sprite[:3] *= np.where(parts == figures.PARTS.index("flame"), 1, tint)
        return Scene(
            backdrop=np.asarray(backdrop, np.float32),
            sprites=sprites,
            parts=np.stack([parts for _, parts in self.sprites]),
            movement=Movement(np.stack(self.tracks), self.camera),
            labels=labels,
            **draw_defects(rng),
        )


def _turned(point: Any, angle: Any) -> Any:
    """The point (2,) rotated clockwise by each angle (T,): (T, 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1]], axis=-1)
