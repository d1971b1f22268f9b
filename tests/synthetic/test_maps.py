"""Maps of generated clips: what every pixel shows, and where that is going."""

import numpy as np
import pytest
import torch

from c3dvideo import synthetic
from c3dvideo.synthetic import Scene, render, render_maps, render_parts
from c3dvideo.synthetic.figures import PARTS
from c3dvideo.synthetic.maps import MOVES, STILL
from c3dvideo.synthetic.motions import ANGLE, RIPPLE, RIPPLE_PHASE, SIZE, STRETCH, Movement, X, Y


def one_thing() -> Scene:
    """A white square that stands still in the middle of the dark."""
    movement = Movement(np.zeros((1, 16, 7)), np.zeros((16, 2)))
    movement.objects[0, :, SIZE] = np.log(0.5)
    sprite = np.ones((1, 4, 96, 96), np.float32)
    return Scene(backdrop=np.zeros((3, 160, 160), np.float32), sprites=sprite, movement=movement)


def names(moves: torch.Tensor) -> set[str]:
    return {MOVES[number] for number in moves.unique().tolist()}


def render_moves(scene: Scene, *, height: int, width: int, frames: slice = slice(None)) -> torch.Tensor:
    """The moves of the two maps, whose parts are those of `render_parts`."""
    parts, moves = render_maps(scene, height=height, width=width, frames=frames)
    assert parts.equal(render_parts(scene, height=height, width=width, frames=frames))
    return moves


def test_research_scenes_have_things_where_their_sprites_are() -> None:
    scene = synthetic.draw_scene(seed=0, index=3)
    shown = render_parts(scene, height=40, width=40)
    assert shown.shape == (16, 40, 40) and set(shown.unique().tolist()) == {0, PARTS.index("thing")}


def test_parts_ripple_with_the_picture() -> None:
    """A thing without a place to hide: its part is where the picture differs from the same one without it."""
    scene = one_thing()
    scene.movement.objects[0, :, RIPPLE] = 0.3
    scene.movement.objects[0, :, RIPPLE_PHASE] = np.arange(16)
    bright = render([scene], height=64, width=64)[0, 0] > 127
    thing = render_parts(scene, height=64, width=64) == PARTS.index("thing")
    assert (bright != thing).float().mean() < 0.01
    assert (thing[0] != thing[3]).float().mean() > 0.02, "the thing ripples"


@pytest.mark.parametrize(("move", "way"), list(zip(MOVES[1:], range(0, 360, 45), strict=True)))
@pytest.mark.parametrize("width", [48, 96])
def test_a_thing_that_glides_moves_its_way_and_the_rest_stands_still(move: str, way: int, width: int) -> None:
    scene = one_thing()
    along = 2 * STILL * np.linspace(-8, 8, 16)
    scene.movement.objects[0, :, [X, Y]] = np.outer([np.cos(np.radians(way)), np.sin(np.radians(way))], along)
    moves = render_moves(scene, height=48, width=width)
    thing = render_parts(scene, height=48, width=width) > 0
    assert moves.shape == (16, 48, width) and moves.dtype == torch.uint8
    assert all(names(frame[here]) == {move} for frame, here in zip(moves, thing, strict=True)), "in every frame"
    assert names(moves[~thing]) == {"still"}


def test_slower_than_the_limit_is_still() -> None:
    scene = one_thing()
    scene.movement.objects[0, :, X] = 0.9 * STILL * np.arange(16)
    assert names(render_moves(scene, height=32, width=32)) == {"still"}


def test_the_backdrop_goes_against_the_camera() -> None:
    scene = one_thing()
    scene.movement.camera[:, 0] = 2 * STILL * np.arange(16)
    moves = render_moves(scene, height=32, width=32, frames=slice(1, None, 2))
    thing = render_parts(scene, height=32, width=32, frames=slice(1, None, 2)) > 0
    assert moves.shape == (8, 32, 32)
    assert names(moves[~thing]) == {"left"} and names(moves[thing]) == {"still"}
    scene.movement.objects[0, :, SIZE] = np.log(0.01)
    bright = one_thing()
    bright.backdrop[:, :, 76:84] = 1
    bright.movement.camera[:] = scene.movement.camera
    bright.movement.objects[0] = scene.movement.objects[0]
    places = render([bright], height=32, width=32)[0, 0].float().mean(1).argmax(1)
    assert places[-1] < places[0], "so does the picture"


def test_turning_clockwise_and_growing() -> None:
    scene = one_thing()
    scene.movement.objects[0, :, ANGLE] = 0.1 * np.arange(16)
    turning = render_moves(scene, height=64, width=64)[8]
    assert [MOVES[turning[row, column]] for row, column in ((22, 32), (32, 42), (42, 32), (32, 22))] == [
        "right", "down", "left", "up"
    ]  # fmt: skip
    assert MOVES[turning[32, 32]] == "still", "the middle of what turns"
    growing = one_thing()
    growing.movement.objects[0, :, SIZE] += 0.1 * np.linspace(-8, 8, 16)
    moves = render_moves(growing, height=64, width=64)[8]
    assert [MOVES[moves[row, column]] for row, column in ((22, 32), (32, 42), (42, 42))] == [
        "up",
        "right",
        "down right",
    ]
    stretching = one_thing()
    stretching.movement.objects[0, :, STRETCH] += 0.15 * np.linspace(-8, 8, 16)
    moves = render_moves(stretching, height=64, width=64)[8]
    assert [MOVES[moves[row, column]] for row, column in ((22, 32), (32, 42))] == ["down", "right"]


def test_a_thing_in_front_hides_what_goes_on_behind() -> None:
    behind = one_thing()
    behind.movement.objects[0, :, X] = 3 * STILL * np.linspace(-8, 8, 16)
    objects = np.concatenate([behind.movement.objects, one_thing().movement.objects])
    objects[1, :, SIZE] = np.log(0.2)
    scene = Scene(
        backdrop=behind.backdrop,
        sprites=np.concatenate([behind.sprites] * 2),
        movement=Movement(objects, behind.movement.camera),
    )
    moves = render_moves(scene, height=64, width=64)[8]
    assert MOVES[moves[32, 32]] == "still" and MOVES[moves[32, 44]] == "right" and "right" in names(moves)


def test_generated_scenes_go_every_way() -> None:
    found = [render_moves(synthetic.draw_scene(seed=0, index=index), height=24, width=24) for index in range(12)]
    assert names(torch.stack(found)) == set(MOVES)
