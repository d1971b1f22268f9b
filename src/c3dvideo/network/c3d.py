"""The C3D network: eight 3x3x3 convolutions, five poolings, fc6, fc7 and fc8.

    network = c3d(num_classes=487)
    logits = network(clips)                                        # clips: float (N, 3, 16, 112, 112)
    features = network.activations(clips, ["fc6", "pool5"])        # stops at fc6

The figure of the paper (Tran et al., ICCV 2015, section 3), one line per stage, sizes as (C, T, H, W):

    clip    3 x 16 x 112 x 112
    conv1a  64                     pool1 1x2x2    64 x 16 x 56 x 56
    conv2a  128                    pool2 2x2x2   128 x  8 x 28 x 28
    conv3a  256   conv3b 256       pool3 2x2x2   256 x  4 x 14 x 14
    conv4a  512   conv4b 512       pool4 2x2x2   512 x  2 x  7 x  7
    conv5a  512   conv5b 512       pool5 2x2x2   512 x  1 x  4 x  4    (3 x 3 when pool5 is "floor")
    fc6 4096   fc7 4096   fc8 num_classes

A ReLU follows every convolution, fc6 and fc7. Their activations are the outputs of the ReLU.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor, nn

from c3dvideo.choices import Filler, Pool5
from c3dvideo.errors import UsageError
from c3dvideo.network.folder import load_folder_or_hub, save_folder
from c3dvideo.network.model_card import model_card
from c3dvideo.video.preprocess import CAFFE, Profile

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
SMALL_STAGES = ((64,), (128,), (256,), (256,), (256,))


class C3D(
    nn.Module,
    ModelHubMixin,
    library_name="c3dvideo",
    pipeline_tag="video-classification",
    paper_url="https://arxiv.org/abs/1412.0767",
):
    """C3D of any width and depth. See `c3d`, `c3d_plain` and `c3d_small` for the published variants.

    stages: output channels per convolution, for each of the five stages; two values in stage 3 give conv3a, conv3b.
    temporal_depths: odd kernel length in time of each stage (the paper's kernel depth study); padding preserves T.
    pool5: "ceil" is the release (windows at the right and bottom border are clipped, 7 -> 4); "symmetric" pads H and W
        by one on each side, as most ports do (7 -> 4, on a grid shifted by one); "floor" has no padding (7 -> 3).
    dropout: probability after fc6 and fc7, in training only.
    filler: "gaussian" is the release (standard deviations 0.01, fully connected 0.005; biases 0 for conv1a and the
        last layer, else 1); "xavier" is Xavier-uniform weights and zero biases.
    last_layer: name of the last layer in the state dict; its activation is always called "fc8".

    Attributes describe input and output: `profile` and `mean_volume` (how pixels become input), `descriptor_mean`
    (the mean L2-normalised fc6 of the training clips, or None; subtract it from descriptors before comparing them),
    `classes` (one name per output, or empty) and `provenance` (the source of the weights).

    >>> network = C3D(num_classes=5, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16).eval()
    >>> clips = torch.zeros(2, 3, 16, 112, 112)
    >>> network(clips).shape
    torch.Size([2, 5])
    >>> {name: tuple(values.shape) for name, values in network.activations(clips, ["pool5", "fc6"]).items()}
    {'pool5': (2, 8, 1, 4, 4), 'fc6': (2, 16)}
    """

    def __init__(
        self,
        *,
        num_classes: int = 487,
        stages: Sequence[Sequence[int]] = STAGES,
        temporal_depths: Sequence[int] = (3, 3, 3, 3, 3),
        fc_width: int = 4096,
        pool5: Pool5 = "ceil",
        dropout: float = 0.5,
        filler: Filler = "gaussian",
        last_layer: str = "fc8",
        clip_length: int = 16,
        crop_size: int = 112,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "num_classes": num_classes,
            "stages": [list(stage) for stage in stages],
            "temporal_depths": list(temporal_depths),
            "fc_width": fc_width,
            "pool5": pool5,
            "dropout": dropout,
            "filler": filler,
            "last_layer": last_layer,
            "clip_length": clip_length,
            "crop_size": crop_size,
        }
        _check_architecture(self.architecture)
        self.profile: Profile = CAFFE
        self.mean_volume: np.ndarray[Any, np.dtype[np.float32]] | None = None
        self.descriptor_mean: np.ndarray[Any, np.dtype[np.float32]] | None = None
        self.classes: tuple[str, ...] = ()
        self.provenance: dict[str, Any] = {}

        steps: list[str] = []
        channels = 3
        for number, (widths, depth) in enumerate(zip(stages, temporal_depths, strict=True), start=1):
            for letter, width in zip("abcdefgh", widths, strict=False):
                name = f"conv{number}{letter}"
                padding = (depth // 2, 1, 1)
                self.add_module(name, nn.Conv3d(channels, width, kernel_size=(depth, 3, 3), padding=padding))
                steps.append(name)
                channels = width
            if number == 1:
                pool: nn.Module = nn.MaxPool3d(kernel_size=(1, 2, 2))
            else:
                pool = nn.MaxPool3d(kernel_size=2) if number < 5 else _pool5(pool5)
            self.add_module(f"pool{number}", pool)
            steps.append(f"pool{number}")
        self.fc6 = nn.Linear(channels * _pool5_cells(clip_length, crop_size, pool5), fc_width)
        self.fc7 = nn.Linear(fc_width, fc_width)
        self.add_module(last_layer, nn.Linear(fc_width, num_classes))
        self.steps = (*steps, "fc6", "fc7", "fc8", "prob")
        self.initialise(filler)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (N, num_classes) of clips, float (N, 3, clip_length, crop_size, crop_size)."""
        return self.activations(clips, ["fc8"])["fc8"]

    def activations(self, clips: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """The named activations of clips. Computation stops at the deepest of them.

        layers: any of `network.steps`. "conv*", "fc6" and "fc7" are after ReLU and before dropout, "fc8" holds the
            logits, "prob" their softmax. Convolutions and pools are (N, C, T, H, W), the others (N, D).
        Raises UsageError for an unknown layer or an input of another size.
        """
        wanted = self.check_layers(layers)
        expected = (3, self.architecture["clip_length"], self.architecture["crop_size"], self.architecture["crop_size"])
        if clips.ndim != 5 or tuple(clips.shape[1:]) != expected:
            raise UsageError(
                f"clips have shape {tuple(clips.shape)}; this network takes (N, {', '.join(map(str, expected))})"
            )
        found: dict[str, Tensor] = {}
        x = clips
        for name in self.steps:
            x = self.step(name, x)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
            if name in ("fc6", "fc7"):
                x = nn.functional.dropout(x, self.architecture["dropout"], self.training)
        return {name: found[name] for name in wanted}

    def step(self, name: str, x: Tensor) -> Tensor:
        """The activation `name`, computed from the activation `x` of the step before it."""
        if name.startswith("conv"):
            return torch.relu(self.get_submodule(name)(x))
        if name.startswith("pool"):
            return self.get_submodule(name)(x)  # type: ignore[no-any-return]
        if name == "fc8":
            return self.head(x)  # type: ignore[no-any-return]
        if name == "prob":
            return torch.softmax(x, dim=1)
        return torch.relu(self.get_submodule(name)(x.flatten(1)))

    @property
    def head(self) -> nn.Module:
        """The last layer, whatever its name in the state dict."""
        return self.get_submodule(self.architecture["last_layer"])

    def check_layers(self, layers: Iterable[str]) -> list[str]:
        """`layers`, one name or several, without repeats; raises UsageError for one that this network does not have."""
        wanted = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
        unknown = [name for name in wanted if name not in self.steps]
        if unknown or not wanted:
            asked = ", ".join(unknown) if unknown else "none"
            raise UsageError(f"unknown layer: {asked}; this network has {', '.join(self.steps)}")
        return wanted

    def layer_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one clip's activation `name`, without the clip axis."""
        size = self.architecture["crop_size"]
        with torch.device("meta"), torch.no_grad():
            twin = type(self)(**self.architecture)
            clip = torch.empty(1, 3, self.architecture["clip_length"], size, size)
            return tuple(twin.activations(clip, [name])[name].shape[1:])

    def use_pool5(self, rule: Pool5) -> None:
        """Change the pool5 rule in place. Raises UsageError when the number of inputs of fc6 would change."""
        size, length = self.architecture["crop_size"], self.architecture["clip_length"]
        now, then = (_pool5_cells(length, size, each) for each in (self.architecture["pool5"], rule))
        if now != then:
            raise UsageError(
                f"pool5 rule {rule!r} leaves {then} cells per channel, but fc6 of these weights takes {now} "
                f"(rule {self.architecture['pool5']!r})"
            )
        self.architecture["pool5"] = rule
        self.pool5 = _pool5(rule)

    @torch.no_grad()
    def initialise(self, filler: Filler) -> None:
        """Initialise all weights with torch's global random generator."""
        for name, layer in self.named_layers():
            released_bias = 0.0 if name in ("conv1a", self.architecture["last_layer"]) else 1.0
            nn.init.constant_(layer.get_parameter("bias"), 0.0 if filler == "xavier" else released_bias)
            if filler == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.normal_(layer.weight, std=0.005 if name in ("fc6", "fc7") else 0.01)

    def named_layers(self) -> Iterator[tuple[str, nn.Conv3d | nn.Linear]]:
        """The layers that have weights, in order, with their state dict names."""
        for name, module in self.named_children():
            if isinstance(module, nn.Conv3d | nn.Linear):
                yield name, module

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy the arrays of a state dict into the network, as `torch.nn.Module` does.

        For names of another project, the error explains how to import its file. Other projects also differ in channel
        order, mean and pool5, so renaming the arrays alone would give wrong features.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            foreign = [name for name in state_dict if name not in self.state_dict()]
            if not foreign:
                raise
            raise RuntimeError(
                f"{error}\nThe names {', '.join(foreign[:4])} are not those of this network (conv1a ... conv5b, fc6, "
                f"fc7, {self.architecture['last_layer']}). Other projects also prepare pixels differently: "
                "import their file with `c3dvideo weights import FILE --out DIR` or c3dvideo.import_weights(FILE)"
            ) from error

    def _save_pretrained(self, save_directory: Path) -> None:
        save_folder(self, save_directory)

    def generate_model_card(self, **facts: Any) -> ModelCard:
        """The filled model card, which `save_pretrained` and `push_to_hub` write; facts: those of `model_card`."""
        return ModelCard(model_card(self, **facts))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The network of a weights folder, of a hub id "owner/name", or of the "embedded" weights, in evaluation mode.

        options: `num_classes` for an untrained last layer when the weights have another number of classes (with a
            warning); revision, token, cache_dir, force_download and local_files_only go to the hub.
        Raises WeightsError when the folder is damaged, DownloadError when the hub is unreachable or lacks the weights.
        """
        return load_folder_or_hub(cls, str(pretrained_model_name_or_path), **options)


def c3d(num_classes: int = 487, **architecture: Any) -> C3D:
    """The network of the authors' release (conv3d_deepnetA): ceil-mode pool5, dropout, Gaussian fillers.

    >>> with torch.device("meta"):  # shapes only
    ...     network = c3d(num_classes=101)
    >>> network.layer_shape("pool5"), network.layer_shape("fc6"), network.layer_shape("fc8")
    ((512, 1, 4, 4), (4096,), (101,))
    """
    return C3D(num_classes=num_classes, **architecture)


def c3d_plain(num_class: int = 487, init_weights: bool = True) -> C3D:
    """C3D without pool5 padding (fc6 takes 4608) and without dropout; the last layer is named `out`.

    init_weights: Xavier-uniform weights and zero biases; False keeps PyTorch's default initialisation.

    >>> with torch.device("meta"):
    ...     network = c3d_plain(num_class=4)
    >>> network.fc6.in_features, network.out.out_features
    (4608, 4)
    """
    network = C3D(num_classes=num_class, pool5="floor", dropout=0.0, filler="xavier", last_layer="out")
    if not init_weights:
        for _, layer in network.named_layers():
            layer.reset_parameters()
    return network


def c3d_small(num_classes: int = 101, **architecture: Any) -> C3D:
    """The 5-convolution network of the kernel depth study and the release's UCF101 example (fc6, fc7 of 2048).

    >>> with torch.device("meta"):
    ...     network = c3d_small(num_classes=101)
    >>> network.layer_shape("fc6")
    (2048,)
    """
    return C3D(**{"num_classes": num_classes, "stages": SMALL_STAGES, "fc_width": 2048, **architecture})


def _pool5(rule: Pool5) -> nn.MaxPool3d:
    if rule == "symmetric":
        return nn.MaxPool3d(kernel_size=2, padding=(0, 1, 1))
    return nn.MaxPool3d(kernel_size=2, ceil_mode=rule == "ceil")


def _pool5_cells(clip_length: int, crop_size: int, rule: Pool5) -> int:
    """Cells of pool5 per channel: T * H * W."""
    frames, side = clip_length // 8, crop_size // 16
    if rule == "floor":
        return (frames // 2) * (side // 2) ** 2
    if rule == "symmetric":
        return (frames // 2) * (side // 2 + 1) ** 2
    return -(-frames // 2) * (-(-side // 2)) ** 2


def _check_architecture(architecture: Mapping[str, Any]) -> None:
    stages, depths = architecture["stages"], architecture["temporal_depths"]
    if len(stages) != 5 or len(depths) != 5 or not all(1 <= len(stage) <= 8 for stage in stages):
        raise UsageError(
            f"C3D has five stages of one to eight convolutions; got stages {stages} and temporal depths {depths}"
        )
    if any(depth < 1 or depth % 2 == 0 for depth in depths):
        raise UsageError(
            f"temporal depths must be odd and positive, so that padding preserves the clip length; got {depths}"
        )
    for name, choice in (("pool5", Pool5), ("filler", Filler)):
        if architecture[name] not in get_args(choice):
            raise UsageError(f"{name} is {architecture[name]!r}; expected one of {', '.join(get_args(choice))}")
    sizes = {name: architecture[name] for name in _LARGEST if name in architecture}
    sizes |= {f"stage {number}": width for number, stage in enumerate(stages, start=1) for width in stage}
    sizes |= {f"temporal depth of stage {number}": depth for number, depth in enumerate(depths, start=1)}
    for name, value in sizes.items():
        largest = _LARGEST.get(name, _LARGEST["fc_width"])
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            raise UsageError(f"{name} is {value!r}; expected a whole number from 1 to {largest:,}")
    if not 0 <= architecture["dropout"] < 1:
        raise UsageError(f"dropout is {architecture['dropout']}; expected at least 0 and less than 1")
    cells = _pool5_cells(architecture["clip_length"], architecture["crop_size"], architecture["pool5"])
    if cells < 1:
        raise UsageError(
            f"a clip of {architecture['clip_length']} frames of {architecture['crop_size']} pixels leaves nothing "
            "after five poolings; take at least 16 frames of 32 pixels (8 and 16 with pool5 'ceil')"
        )


_LARGEST = {"num_classes": 10_000_000, "fc_width": 1 << 20, "clip_length": 4096, "crop_size": 4096}
"""Largest sizes. Larger ones come from a damaged config and would exhaust the memory."""
