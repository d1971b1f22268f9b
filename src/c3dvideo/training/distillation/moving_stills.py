"""Moving clips made of still pictures: a camera pans, zooms and turns over a picture, and a patch of another one moves.

    generator = torch.Generator().manual_seed(0)
    moving = move_stills(stills, frames=16, size=112, generator=generator)
    moving.clips                                 # float (N, 3, 16, 112, 112), 0..255
    moving.teacher_views(224)                    # float (N, 3, 224, 224), the middle frame as the teacher sees it
    moving.targets["pan"]                        # int64 (N,), numbers into MOTIONS["pan"]
    moving.sampled(maps, 16)                     # what the same camera sees of maps (N, C, h, w) of the stills

`view_clips` gives views of real clips in the same form, without motion targets. Every number is drawn from the
generator, and everything is computed on the device of the stills.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

DIRECTIONS = ("still", "right", "down right", "down", "down left", "left", "up left", "up", "up right")
MOTIONS: dict[str, tuple[str, ...]] = {
    "pan": DIRECTIONS,
    "zoom": ("none", "in", "out"),
    "turn": ("none", "clockwise", "anticlockwise"),
    "patch": DIRECTIONS,
}
"""Motion task -> names of its classes. Directions are those in which the picture moves on the screen."""

NO_TARGET = -1
"""Target of a task that a clip does not have: the patch's direction where there is no moving patch."""

_PATCHED, _BLENDED = 0.5, 0.2
"""Shares of the clips with a moving patch, and with a second picture blended over all of the first."""


@dataclass(frozen=True)
class MovingStills:
    """Clips (N, 3, T, S, S) in RGB, 0..255, their motion targets, and the camera through which they were seen."""

    clips: Tensor
    targets: dict[str, Tensor]
    _pictures: Tensor
    _middle: Callable[[Tensor, int], Tensor]
    _light: Callable[[Tensor], Tensor]

    def teacher_views(self, size: int) -> Tensor:
        """The middle frames (N, 3, size, size), 0..255, without the blur, noise and black bars of the clips."""
        return self._light(self.sampled(self._pictures, size)[:, :, None])[:, :, 0].clamp_(0, 255)

    def sampled(self, fields: Tensor, side: int) -> Tensor:
        """What the middle frame shows of fields (N, C, h, w) that lie over the stills: (N, C, side, side).

        Where a patch or blend of another picture covers the still, the field of that other picture is seen.
        """
        return self._middle(fields.float(), side)


class _Draws:
    """Random numbers, one per clip."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator, self.device = n, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(self.n, *shape, device=self.device).uniform_(low, high, generator=self.generator)

    def chance(self, share: float) -> Tensor:
        return self.uniform(0, 1) < share

    def integer(self, n_values: int) -> Tensor:
        return torch.randint(n_values, (self.n,), device=self.device, generator=self.generator)


def move_stills(stills: Tensor, *, frames: int, size: int, generator: torch.Generator) -> MovingStills:
    """Clips of `frames` frames of size x size pixels, one per still.

    stills: uint8 (N, 3, H, W), RGB, shown at 4:3. Patches and blended pictures come from the other stills of the batch.
    """
    draws = _Draws(len(stills), generator)
    camera, camera_targets = _camera(draws, frames)
    patch = _Patch.drawn(draws, frames)
    light = _light(draws)

    def seen(fields: Tensor, at: slice, side: int) -> Tensor:
        return patch.over(_look(fields, camera[:, at], side), fields.roll(1, 0), at, side)

    def middle(fields: Tensor, side: int) -> Tensor:
        return seen(fields, slice(frames // 2, frames // 2 + 1), side)[:, :, 0]

    clips = _degrade(light(seen(stills.float(), slice(None), size)), draws).clamp_(0, 255)
    return MovingStills(clips, camera_targets | {"patch": patch.target}, stills, middle, light)


def view_clips(clips: Tensor, middles: Tensor, *, size: int, generator: torch.Generator) -> MovingStills:
    """Views of real clips, each through a fixed camera; they have no motion targets.

    clips: uint8 (N, 3, T, H, W), RGB. middles: uint8 (N, 3, h, w), the middle frames, which the teacher sees.
    """
    n, _, frames, _, _ = clips.shape
    draws = _Draws(n, generator)
    camera = _still_camera(draws)
    light = _light(draws)

    def middle(fields: Tensor, side: int) -> Tensor:
        return _look(fields, camera, side)[:, :, 0]

    seen = middle(clips.float().flatten(1, 2), size).view(n, 3, frames, size, size)
    unknown = torch.full((n,), NO_TARGET, device=clips.device)
    return MovingStills(
        _degrade(light(seen), draws).clamp_(0, 255), dict.fromkeys(MOTIONS, unknown), middles, middle, light
    )


def _direction(draws: _Draws, still_share: float) -> tuple[Tensor, Tensor]:
    """Class numbers into DIRECTIONS, and unit vectors (N, 2) of right and down; zero for no motion."""
    eighth = draws.integer(8)
    angle = (eighth + draws.uniform(-0.4, 0.4)) * (math.pi / 4)
    moves = ~draws.chance(still_share)
    return torch.where(moves, 1 + eighth, 0), torch.stack([angle.cos(), angle.sin()], 1) * moves[:, None]


def _camera(draws: _Draws, frames: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Lookups (N, T, 2, 3) from the screen to the picture, both -1..1, and the targets of pan, zoom and turn.

    A pan crosses 0.15 to 0.8 of half a screen; a zoom changes the scale by 10 to 60 percent and a turn the angle by 6
    to 35 degrees over the clip. Every camera also shakes a little, so that none stands perfectly still.
    """
    n, device = draws.n, draws.device
    time = torch.linspace(-1, 1, frames, device=device)
    pan, way = _direction(draws, 0.25)
    path = way[:, None] * draws.uniform(0.15, 0.8, 1, 1) * time[:, None] / 2
    path = path + 0.01 * torch.randn(n, frames, 2, device=device, generator=draws.generator)
    zoom, turn = (draws.integer(3) * draws.chance(0.5) for _ in range(2))
    growth = draws.uniform(math.log(1.1), math.log(1.6)) * torch.tensor([0.0, 1.0, -1.0], device=device)[zoom]
    turning = draws.uniform(0.1, 0.6) * torch.tensor([0.0, 1.0, -1.0], device=device)[turn]
    angle = draws.uniform(-0.15, 0.15)[:, None] + turning[:, None] * time / 2
    side = draws.uniform(0.2, 1.0).sqrt()[:, None] * (-growth[:, None] * time / 2).exp()
    ratio = draws.uniform(-0.2, 0.2).exp()[:, None]
    flip = torch.where(draws.chance(0.5), -1.0, 1.0)[:, None]
    cosine, sine = angle.cos(), angle.sin()
    # The screen is square and the picture 4:3, of which 0.75 across keeps shapes; the network's input shows 0.75 too.
    across, down = 0.87 * side * ratio * flip, side / ratio
    linear = torch.stack(
        [torch.stack([across * cosine, across * sine], -1), torch.stack([-down * sine, down * cosine], -1)], -2
    )
    room = (1 - torch.stack([side * ratio, side / ratio], -1).amax(1)).clamp(min=0)
    middle = (draws.uniform(-1, 1, 2) * room)[:, None]
    # The picture moves along `way` when the camera moves the other way.
    offset = middle - torch.einsum("ntij,ntj->nti", linear, path)
    return torch.cat([linear, offset[..., None]], -1), {"pan": pan, "zoom": zoom, "turn": turn}


def _still_camera(draws: _Draws) -> Tensor:
    """Lookups (N, 1, 2, 3) of a fixed camera that shows a fifth to all of a frame, half of them mirrored."""
    side, ratio = draws.uniform(0.2, 1.0).sqrt(), draws.uniform(-0.2, 0.2).exp()
    size = torch.stack([0.87 * side * ratio, side / ratio], 1).clamp(max=1)
    middle = draws.uniform(-1, 1, 2) * (1 - size)
    flip = torch.where(draws.chance(0.5), -1.0, 1.0)
    linear = torch.diag_embed(size * torch.stack([flip, torch.ones_like(flip)], 1))
    return torch.cat([linear, middle[..., None]], -1)[:, None]


def _look(pictures: Tensor, lookups: Tensor, side: int) -> Tensor:
    """(N, C, T, side, side): pictures (N, C, H, W) seen through lookups (N, T, 2, 3)."""
    n, t = lookups.shape[:2]
    grid = functional.affine_grid(lookups.flatten(0, 1), [n * t, 1, side, side], align_corners=False)
    seen = functional.grid_sample(
        pictures, grid.view(n, t * side, side, 2), mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return seen.view(n, -1, t, side, side)


@dataclass(frozen=True)
class _Patch:
    """A piece of another picture, or all of it, laid over the clip: where it is, how it is cut, and how opaque."""

    places: Tensor  # (N, T, 2): its middle on the screen, -1..1
    half: Tensor  # (N, 2): its half width and height on the screen
    lookup: Tensor  # (N, T, 2, 3)
    round: Tensor
    opacity: Tensor
    target: Tensor

    @classmethod
    def drawn(cls, draws: _Draws, frames: int) -> "_Patch":
        kind = draws.uniform(0, 1)
        patched, blended = kind < _PATCHED, (kind >= _PATCHED) & (kind < _PATCHED + _BLENDED)
        time = torch.linspace(-1, 1, frames, device=draws.device)
        target, way = _direction(draws, 0.2)
        middle = draws.uniform(-0.5, 0.5, 1, 2)
        places = middle + way[:, None] * draws.uniform(0.3, 1.2, 1, 1) * time[:, None] / 2
        half = torch.where(blended[:, None], 9.0, draws.uniform(0.2, 0.55, 2))
        scale = draws.uniform(0.4, 1.0)[:, None]
        # The patch carries its own piece of the other picture along; a blended picture stays where it is.
        carried = torch.where(blended[:, None, None], 0.0, places)
        eye = torch.eye(2, device=draws.device).expand(draws.n, frames, 2, 2) * scale[..., None, None]
        centre = (draws.uniform(-1, 1, 1, 2) * (1 - scale[..., None])).expand(-1, frames, -1)
        lookup = torch.cat([eye, (centre - scale[..., None] * carried)[..., None]], -1)
        opacity = torch.where(patched, 1.0, torch.where(blended, draws.uniform(0.2, 0.5), 0.0))
        return cls(places, half, lookup, draws.chance(0.5), opacity, torch.where(patched, target, NO_TARGET))

    def over(self, seen: Tensor, others: Tensor, at: slice, side: int) -> Tensor:
        """The clips (N, 3, t, side, side) with the patch over them."""
        axis = (torch.arange(side, device=seen.device) + 0.5) * 2 / side - 1
        place, half = self.places[:, at], self.half[:, None]
        x = (axis[None, None, :] - place[..., 0, None]) / half[..., 0, None]
        y = (axis[None, None, :] - place[..., 1, None]) / half[..., 1, None]
        far = x.square()[:, :, None, :] + y.square()[..., None]
        box = torch.maximum(x.abs()[:, :, None, :], y.abs()[..., None])
        inside = torch.where(self.round[:, None, None, None], far.sqrt(), box)
        cover = ((1 - inside) * (4 * side / 64)).clamp(0, 1) * self.opacity[:, None, None, None]
        return torch.lerp(seen, _look(others, self.lookup[:, at], side), cover[:, None])


def _light(draws: _Draws) -> Callable[[Tensor], Tensor]:
    """Exposure, contrast and colour cast, the same for the clip and for the teacher."""
    gain = draws.uniform(-0.25, 0.25, 1, 1, 1, 1).exp()
    shift = draws.uniform(-25, 25, 1, 1, 1, 1)
    cast = draws.uniform(-0.1, 0.1, 3, 1, 1, 1).exp()
    grey = torch.where(draws.chance(0.1), 1.0, draws.uniform(-0.3, 0.3)).view(-1, 1, 1, 1, 1)

    def apply(x: Tensor) -> Tensor:
        x = torch.lerp(x, x.mean(1, keepdim=True), grey)
        return (x - 112) * gain * cast + 112 + shift

    return apply


def _degrade(clips: Tensor, draws: _Draws) -> Tensor:
    """Blur or coarse sampling of half of the clips, grain, and black bars: what cameras and codecs add."""
    n, _, t, side, _ = clips.shape
    soft = draws.chance(0.5)
    flat = clips.transpose(1, 2).reshape(n, 3 * t, side, side)
    coarse = functional.interpolate(
        functional.avg_pool2d(flat, 2), size=(side, side), mode="bilinear", align_corners=False
    )
    flat = torch.lerp(flat, coarse, (draws.uniform(0.2, 1.0) * soft)[:, None, None, None])
    grain = draws.uniform(0, 8)[:, None, None, None]
    flat = flat + grain * torch.randn(flat.shape, device=flat.device, generator=draws.generator)
    bar = (draws.uniform(0, 0.14) * draws.chance(0.2))[:, None, None, None]
    down = torch.linspace(0, 1, side, device=flat.device)[:, None]
    flat = flat * ((down >= bar) & (down <= 1 - bar))
    return flat.view(n, t, 3, side, side).transpose(1, 2)
