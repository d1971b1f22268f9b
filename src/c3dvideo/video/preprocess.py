"""How pixels become network input: profiles, resizing, crops and the mean.

    views = CAFFE.views("centre")
    crops = prepare_frame(pixels, CAFFE, views)           # uint8 (1, 3, 112, 112)
    mean = input_mean(CAFFE, mean_volume, views[0])       # float32 (3, 16, 112, 112)

A profile is a named set of rules: `CAFFE` is that of the authors' release, the others are those of the ports.
Everything up to the crop is uint8 and happens here, frame by frame; the mean, scale and std are applied on the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np

from c3dvideo.choices import ChannelOrder, Crops, Interpolation, Pool5, Resize
from c3dvideo.errors import UsageError
from c3dvideo.video.resize import Pixels, Yuv420, resample

Offset = int | Literal["centre", "end"]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, kw_only=True)
class View:
    """One crop of every frame of a clip: its top-left corner in the resized frame, and whether it is mirrored.

    "centre" and "end" (the last position that fits) stand for a corner that depends on the size of the frame.
    """

    top: Offset
    left: Offset
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How decoded pixels become network input; travels with the weights.

    resize: "stretch" makes every frame resize_height x resize_width; "short_side" keeps the aspect ratio and makes the
        shorter side resize_height (resize_width must equal it).
    interpolation: "opencv_bilinear" is OpenCV's fixed-point bilinear on uint8, without antialias; "antialias_bilinear"
        is that of PIL.
    crop_top, crop_left: the corner of the centre crop; None is (size - crop_size) // 2.
    mean: "volume" is a (3, T, H, W) array at the size of the resized frame, taken at the crop position, that comes
        with the weights; else one value per channel in `channel_order`.
    The input is (pixel * scale - mean) / std, in `channel_order`. Values that do not fit together are a UsageError.

    >>> from dataclasses import replace
    >>> rgb = replace(PROFILES["caffe"], name="caffe_rgb", channel_order="rgb")
    >>> rgb.channel_order, rgb.resize_width, rgb.crop_left
    ('rgb', 171, 29)
    """

    name: str
    channel_order: ChannelOrder = "bgr"
    resize: Resize = "stretch"
    resize_height: int = 128
    resize_width: int = 171
    interpolation: Interpolation = "opencv_bilinear"
    crop_size: int = 112
    crop_top: int | None = 8
    crop_left: int | None = 29
    mean: Literal["volume"] | tuple[float, float, float] = "volume"
    scale: float = 1.0
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pool5: Pool5 = "ceil"

    def __post_init__(self) -> None:
        choices = (
            ("channel_order", ChannelOrder),
            ("resize", Resize),
            ("interpolation", Interpolation),
            ("pool5", Pool5),
        )
        for field, choice in choices:
            self._check(getattr(self, field) in get_args(choice), field, f"one of {', '.join(get_args(choice))}")
        smallest = min(self.resize_height, self.resize_width)
        self._check(self.crop_size > 0, "crop_size", "at least 1")
        self._check(smallest >= self.crop_size, "resize_height", f"and resize_width of at least {self.crop_size}")
        for field, size in (("crop_top", self.resize_height), ("crop_left", self.resize_width)):
            corner, last = getattr(self, field), size - self.crop_size
            self._check(corner is None or 0 <= corner <= last, field, f"between 0 and {last}, or None for the middle")
        if self.resize == "short_side":
            equal = self.resize_width == self.resize_height
            self._check(equal, "resize_width", f"{self.resize_height}, as resize_height: the shorter side is either")
            self._check(self.mean != "volume", "mean", "one value per channel: frames of any width have no mean volume")
        if self.mean != "volume":
            self._check(_three_numbers(self.mean), "mean", "'volume' or three numbers")
        self._check(_three_numbers(self.std) and min(self.std) > 0, "std", "three numbers above 0")
        self._check(self.scale > 0, "scale", "a number above 0")

    def _check(self, right: bool, field: str, wanted: str) -> None:
        if not right:
            raise UsageError(f"profile {self.name!r}: {field} is {getattr(self, field)!r}, expected {wanted}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The profile whose `dataclasses.asdict` (or its JSON) is `values`; UsageError names unknown fields."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown or "name" not in values:
            raise UsageError(
                f"a profile has the fields {', '.join(field.name for field in fields(cls))}; "
                + (f"got the unknown {', '.join(unknown)}" if unknown else "'name' is missing")
            )
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def views(self, crops: Crops = "centre") -> tuple[View, ...]:
        """The views of "centre", "five" (centre, top left, top right, bottom left, bottom right) or "ten" crops.

        Ten are the five followed by the same five mirrored.
        """
        centre = View(top=self._middle(self.crop_top, "height"), left=self._middle(self.crop_left, "width"))
        if crops == "centre":
            return (centre,)
        bottom, right = self._last("height"), self._last("width")
        corners = (View(top=top, left=left) for top in (0, bottom) for left in (0, right))
        five = (centre, *corners)
        if crops == "five":
            return five
        if crops == "ten":
            return five + tuple(replace(view, mirrored=True) for view in five)
        raise UsageError(f"crops is {crops!r}, expected one of {', '.join(get_args(Crops))}")

    def _last(self, side: Literal["height", "width"]) -> Offset:
        if self.resize == "short_side":
            return "end"
        return (self.resize_height if side == "height" else self.resize_width) - self.crop_size

    def _middle(self, corner: int | None, side: Literal["height", "width"]) -> Offset:
        last = self._last(side)
        return corner if corner is not None else "centre" if last == "end" else int(last) // 2

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which a decoded frame of `height` x `width` is resized."""
        if self.resize == "stretch":
            return self.resize_height, self.resize_width
        scale = self.resize_height / min(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)


def _three_numbers(values: object) -> bool:
    numbers = isinstance(values, tuple) and all(isinstance(x, int | float) and np.isfinite(x) for x in values)
    return numbers and len(values) == 3  # type: ignore[arg-type]


CAFFE = Profile(name="caffe")
"""The authors' release: BGR, 171x128 without antialias, crop at (8, 29), minus the mean volume, ceil-mode pool5."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        CAFFE,
        # Means of the authors' volumes over time and the centre crop, B, G, R: Sports-1M, and UCF101 (whole frame).
        replace(CAFFE, name="caffe_channel_mean", mean=(100.61, 108.05, 107.81)),
        replace(CAFFE, name="caffe_ucf101_channel_mean", mean=(90.25, 97.66, 101.41)),
        # The I380K network of the release: square frames and a mean volume of their size.
        replace(CAFFE, name="i380k", resize_width=128, crop_left=8),
        # The Keras port axon-research/c3d-keras: one column to the right.
        replace(CAFFE, name="axon", crop_left=30),
        Profile(
            name="davidea",
            channel_order="rgb",
            resize_height=112,
            resize_width=200,
            crop_top=0,
            crop_left=44,
            mean=(0.0, 0.0, 0.0),
            pool5="symmetric",
        ),
        replace(CAFFE, name="jfzhang", crop_left=30, mean=(90.0, 98.0, 102.0), pool5="symmetric"),
        Profile(
            name="mmaction2",
            channel_order="rgb",
            resize="short_side",
            resize_width=128,
            crop_top=None,
            crop_left=None,
            mean=(104.0, 117.0, 128.0),
            pool5="symmetric",
        ),
        Profile(
            name="gluoncv",
            channel_order="rgb",
            crop_left=30,
            mean=_IMAGENET_MEAN,
            scale=1 / 255,
            std=_IMAGENET_STD,
            pool5="symmetric",
        ),
    )
}


def resize_frame(pixels: Pixels | Yuv420, profile: Profile) -> Pixels:
    """The whole resized frame, uint8 (3, h, w), of decoded pixels, uint8 (H, W, 3)."""
    height, width = profile.resized_size(*pixels.shape[:2])
    return resample(pixels, profile.interpolation, size=(height, width), rows=(0, height), columns=(0, width))


def prepare_frame(
    pixels: Pixels | Yuv420, profile: Profile, views: Sequence[View], out: Pixels | None = None
) -> Pixels:
    """The views of one decoded frame: uint8 (V, 3, crop, crop) from uint8 (H, W, 3), both in profile.channel_order.

    pixels: `Frame.pixels`, or `Frame.picture`, which gives the same and is faster.
    out: an array of that shape to write them to, such as the place of the frame in a clip.
    """
    size = profile.crop_size
    resized, rows, columns, corners = _windows(profile, tuple(views), pixels.shape[0], pixels.shape[1])
    is_one_window = len(views) == 1 and not views[0].mirrored
    target = out[0] if out is not None and is_one_window else None
    picture = resample(pixels, profile.interpolation, size=resized, rows=rows, columns=columns, out=target)
    if is_one_window:
        return picture[None]
    out = np.empty((len(views), 3, size, size), np.uint8) if out is None else out
    for crop, view, (top, left) in zip(out, views, corners, strict=True):
        window = picture[:, top - rows[0] :, left - columns[0] :][:, :size, :size]
        crop[:] = window[:, :, ::-1] if view.mirrored else window
    return out


class _Windows(NamedTuple):
    """Height and width to resize to, the rows and columns of that which any view shows, and each view's corner."""

    resized: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    corners: tuple[tuple[int, int], ...]


@lru_cache(maxsize=64)
def _windows(profile: Profile, views: tuple[View, ...], height: int, width: int) -> _Windows:
    """The geometry of `prepare_frame`, which is the same for every frame of a video."""
    resized, size = profile.resized_size(height, width), profile.crop_size
    corners = tuple(corner(view, resized, size) for view in views)
    tops, lefts = zip(*corners, strict=True)
    return _Windows(resized, (min(tops), max(tops) + size), (min(lefts), max(lefts) + size), corners)


def corner(view: View, size: tuple[int, int], crop_size: int) -> tuple[int, int]:
    """Row and column of the view's top-left pixel in a resized frame of `size` (height, width)."""
    offsets = []
    for offset, length in zip((view.top, view.left), size, strict=True):
        last = length - crop_size
        offset = last // 2 if offset == "centre" else last if offset == "end" else offset
        if not 0 <= offset <= last:
            raise UsageError(
                f"{view} leaves the resized frame: {crop_size} pixels from {offset} do not fit in {length}"
            )
        offsets.append(offset)
    return offsets[0], offsets[1]


def input_mean(profile: Profile, mean_volume: Floats | None, view: View) -> Floats:
    """The mean that is subtracted from a view: float32 (3, T, crop, crop) of a volume, else (3, 1, 1, 1).

    mean_volume: float32 (3, T, H, W) at the size of the resized frame; needed when profile.mean is "volume".
    The release subtracts before it mirrors, so the mean of a mirrored view is the mirrored mean of its crop.
    """
    if profile.mean != "volume":
        return np.asarray(profile.mean, np.float32).reshape(3, 1, 1, 1)
    size = (profile.resize_height, profile.resize_width)
    if mean_volume is None or mean_volume.ndim != 4 or mean_volume.shape[0] != 3 or mean_volume.shape[2:] != size:
        raise UsageError(
            f"profile {profile.name!r} subtracts a mean volume (3, T, {size[0]}, {size[1]}), and the weights "
            + ("have none" if mean_volume is None else f"have one of shape {mean_volume.shape}")
            + "; import them with the volume (`c3dvideo weights import FILE --mean MEAN --out DIR`), or choose a "
            "profile with one mean per channel, such as caffe_channel_mean"
        )
    top, left = corner(view, size, profile.crop_size)
    mean = mean_volume[:, :, top : top + profile.crop_size, left : left + profile.crop_size]
    return np.ascontiguousarray(mean[..., ::-1] if view.mirrored else mean, dtype=np.float32)
