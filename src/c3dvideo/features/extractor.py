"""Extractor: a network made ready to turn videos into features, with everything else that determines the numbers.

    extractor = Extractor("embedded", layers=["fc6"], plan=ClipPlan(stride_frames=8))
    for video in extractor(["a.mp4", "more_videos/"]):
        video.layers["fc6"]              # float32 (n_clips, D); or the video is a Failure, with the reason

Made once, an extractor serves any number of calls: its weights are loaded and its engine is built only once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from c3dvideo import __version__
from c3dvideo.choices import Crops, Damaged, EngineName, Pool, PrecisionChoice, check_choice
from c3dvideo.features.activations import FailedVideo, Video, VideoActivations
from c3dvideo.features.check_stored import Identify
from c3dvideo.features.decoders import open_decoders, slots_needed
from c3dvideo.features.decoding import STALL_SECONDS, Check, Checked, DecodeSettings, End
from c3dvideo.features.failures import Failure
from c3dvideo.features.manifest import Manifest
from c3dvideo.features.pipeline import compute
from c3dvideo.features.prepare_network import (
    check_sizes,
    choose_engine_name,
    choose_precision,
    default_device,
    network_fingerprint,
    prepare_network,
)
from c3dvideo.features.store import FORMAT, Array, VideoFeatures, descriptor
from c3dvideo.features.timings import Timings
from c3dvideo.inference.devices import choose_engine, find_device
from c3dvideo.inference.engine import Engine, make_engine
from c3dvideo.inference.exported_network import ExportedNetwork
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.video.access import is_url, shown
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_frames
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.reader import ClipReader
from c3dvideo.video.sources import Source, find_sources


class Extractor:
    """Turns videos into features. Called with videos, it yields the `VideoFeatures` or the `Failure` of each.

    network: in evaluation mode. plan: which frames make a clip. layers: in the order of the network. views: the crops
    of every clip. device: where the network computes. settings: all that determines the numbers, as JSON; the device,
    the engine and the batch size are not part of it, because they change the last bits only.

    >>> extractor = Extractor(layers=["pool5", "fc6"], plan=ClipPlan(stride_frames=8))
    >>> for video in extractor("my_videos/waving_flag/waving_flag_000.mp4"):
    ...     print(video.name, video.layers["fc6"].shape, video.start_frame)
    waving_flag_000.mp4 (5, 1024) [ 0  8 16 24 32]
    """

    def __init__(
        self,
        weights: str | Path | C3D | None = None,
        *,
        layers: Sequence[str] = ("fc6",),
        plan: ClipPlan | None = None,
        crops: Crops = "centre",
        pool: Pool | None = None,
        profile: Profile | str | None = None,
        profile_changes: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        engine: EngineName = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        damaged: Damaged = "error",
        stall_seconds: float = STALL_SECONDS,
        deterministic: bool = False,
        is_elsewhere: bool = False,
    ) -> None:
        """Take the arguments of `extract`. Raises WeightsError for weights, UsageError for parts that do not fit.

        is_elsewhere: the device is of another machine, to which the extractor will be sent, and may be missing here.
        """
        check_choice("damaged", damaged, Damaged)
        if pool is not None:
            check_choice("pool", pool, Pool)
        self.label = weights_label(weights)
        self.network = prepare_network(weights, profile, profile_changes)
        wanted = self.network.check_layers(layers)
        self.plan = plan or ClipPlan(clip_length=self.network.architecture["clip_length"])
        check_sizes(self.network, self.plan)
        if isinstance(self.network, ExportedNetwork):
            self.network.check_runnable(wanted)
        self.layers = [name for name in self.network.steps if name in wanted]
        self.views = self.network.profile.views(crops)
        self.pool = pool
        self._engine_name = choose_engine_name(engine, self.network)
        self.device = torch.device(device) if is_elsewhere else find_device(default_device(weights, device))
        self.precision = choose_precision(precision, self.device.type, self.network)
        choose_engine(self._engine_name, self.device, self.precision)  # raises before anything is decoded
        self.batch_size = batch_size
        self.deterministic = deterministic
        self.workers = _n_decoders(self.device.type) if workers is None else workers
        self.damaged: Damaged = damaged
        self.stall_seconds = stall_seconds
        self.settings = self._settings(crops)
        self.manifest = Manifest(settings=self.settings)

    def __call__(self, inputs: str | Path | Iterable[str | Path]) -> Iterator[VideoFeatures | Failure]:
        """The features of every video, each as soon as it is complete, or why it has none.

        inputs: one or several of what `find_sources` takes: files, folders, frame folders, a CSV, URLs.
        Raises UsageError for an input that does not exist.
        """
        sources = find_sources(inputs)
        for outcome in self.activations(sources, check=Identify(self.stall_seconds)):
            yield outcome if isinstance(outcome, Failure) else self.features(outcome)

    def from_frames(self, frames: Any, *, fps: float | None = None, name: str = "frames") -> VideoFeatures:
        """The features of frames that are already in memory, such as those of a camera or of another decoder.

        frames: uint8 (T, H, W, 3), red first, as an array or a tensor. fps: frames per second; without it,
        `start_seconds` are NaN. name: of the features. Raises UsageError for frames of another shape or dtype, and
        ShortVideoError for fewer frames than a clip takes, unless plan.short says what to do.

        >>> frames = np.zeros((32, 120, 160, 3), np.uint8)
        >>> Extractor().from_frames(frames, fps=25).layers["fc6"].shape
        (2, 1024)
        """
        profile, views = self.network.profile, self.views
        video = Video(Source(name, name), Checked(), n_views=len(views), scratch=None)
        opened = open_frames(frames, fps=fps, channel_order=profile.channel_order)
        clips = ClipReader(opened, self.plan, profile, views)
        arrived = iter(clips)
        while batch := list(islice(arrived, max(1, self.engine.batch_clips // len(views)))):
            for clip in batch:
                video.begin_clip(clip.start_frame, clip.start_seconds)
            view_index = np.tile(np.arange(len(views)), len(batch))
            video.add_rows(self.engine(np.concatenate([clip.pixels for clip in batch]), view_index))
        video.end = End(clips.fps, n_frames=clips.n_frames, damage=None)
        (found,) = video.outcome()
        assert isinstance(found, VideoActivations)
        return self.features(found)

    def activations(
        self,
        sources: Iterable[Source],
        *,
        check: Check | None = None,
        on_clips: Callable[[int], None] = lambda n_clips: None,
    ) -> Iterator[VideoActivations | Failure]:
        """What the network computes for every video, each as soon as it is complete, or why it has none.

        check: finds out what a video contains before it is decoded. on_clips: called with the number of clips that have
        just been decoded.
        """
        timings = Timings()
        with open_decoders(
            sources, self.decode_settings(check), n_decoders=self.workers, n_slots=self.n_slots, timings=timings
        ) as decoders:
            for outcome in compute(decoders, self.engine, timings=timings, on_clips=on_clips):
                if isinstance(outcome, FailedVideo):
                    yield outcome.failure
                elif isinstance(outcome, VideoActivations):
                    yield outcome

    def decode_settings(self, check: Check | None) -> DecodeSettings:
        """How videos are read; check: finds out what is known of each before."""
        return DecodeSettings(
            plan=self.plan,
            profile=self.network.profile,
            views=tuple(self.views),
            damaged=self.damaged,
            stall_seconds=self.stall_seconds,
            check=check,
            stall_advice="; choose a larger `stall_seconds=` if the source is only slow",
            start_advice=", or decode in the main process with `workers=0`",
        )

    def __str__(self) -> str:
        return f"{self.title}, engine {self.engine.name} in {self.engine.precision} on {self.engine.device}"

    @property
    def title(self) -> str:
        """Layers, weights and profile, in words."""
        layers, weights = ", ".join(self.layers), self.settings["weights"][:12]
        return f"{layers} of {self.label} ({weights}), profile {self.network.profile.name}"

    @cached_property
    def engine(self) -> Engine:
        """What computes; built when it is first used, so that an extractor can be sent to another process."""
        return make_engine(
            self.network,
            layers=self.layers,
            views=self.views,
            device=str(self.device),
            precision=self.precision,
            engine=self._engine_name,
            shift_frames=_shift_frames(self.plan),
            batch_clips=self.batch_size,
            deterministic=self.deterministic,
        )

    @property
    def n_slots(self) -> int:
        """Clips that may wait for the network."""
        return slots_needed([self.engine.batch_clips], len(self.views), self.workers)

    def on(self, device: str) -> Self:
        """The same extractor for another device."""
        other = copy(self)
        other.__dict__.pop("engine", None)
        other.device = find_device(device)
        return other

    def features(self, found: VideoActivations, *, engine: Mapping[str, Any] | None = None) -> VideoFeatures:
        """What is stored of a video: its activations, pooled if the settings say so, and where they come from.

        engine: the description of the engine that has computed them, when it is not this extractor's own.
        """
        engine = self.engine.description() if engine is None else engine
        n_rows = 1 if self.pool else len(found.start_frame)
        # Only where they apply, so that the files of whole videos on disk are what they always were.
        unusual = {
            "url_state": found.checked.url_state,
            "damage": found.damage,
            "partial": None if found.damage is None else True,
        }
        return VideoFeatures(
            name=found.source.name,
            layers={name: self._pooled(array) if self.pool else array for name, array in found.layers.items()},
            start_frame=found.start_frame[:n_rows],
            start_seconds=found.start_seconds[:n_rows],
            metadata={
                "source": shown(found.source.path),
                "content_sha256": found.checked.content_sha256,
                "frames_folder": not is_url(found.source.path) and Path(found.source.path).is_dir(),
                "fps": None if found.fps is None else str(found.fps),
                "n_frames": found.n_frames,
                "n_clips": len(found.start_frame),
                "settings": self.settings,
                "fingerprint": self.manifest.fingerprint,
                # A GPU's number would make equal features unequal files.
                "engine": {**engine, "device": str(engine["device"]).partition(":")[0]},
                "version": __version__,
                **{key: value for key, value in unusual.items() if value is not None},
            },
        )

    def _pooled(self, array: Array) -> Array:
        """One row: the descriptor of all clips and views, in the shape of one clip's activation."""
        n_leading = 1 if len(self.views) == 1 else 2
        row_shape = array.shape[n_leading:]
        flat = array.reshape(-1, int(np.prod(row_shape)))
        return descriptor(flat).reshape(1, *row_shape)

    def _settings(self, crops: Crops) -> Mapping[str, Any]:
        mean = self.network.mean_volume if self.network.profile.mean == "volume" else None
        return {
            "format": FORMAT,
            "weights": network_fingerprint(self.network),
            "mean_sha256": None if mean is None else sha256(mean.tobytes()).hexdigest(),
            "profile": self.network.profile.to_dict(),
            "pool5": self.network.architecture["pool5"],
            "layers": self.layers,
            "plan": asdict(self.plan),
            "crops": crops,
            "pool": self.pool,
            "precision": self.precision,
        }


def _shift_frames(plan: ClipPlan) -> int | None:
    """After how many of its own frames the next clip starts, when clips overlap frame on frame."""
    shift, remainder = divmod(plan.stride_frames, plan.sampling_rate)
    return shift if remainder == 0 and shift < plan.clip_length else None


def _n_decoders(device_type: str) -> int:
    """How many processes decode: beside a network on the CPU a quarter of the cores suffices, a GPU takes them all."""
    return n_cores() if device_type == "cuda" else max(1, n_cores() // 4)


def weights_label(weights: str | Path | C3D | None) -> str:
    """What messages call the weights."""
    if isinstance(weights, C3D):
        return "a network in memory"
    return "the default weights" if weights is None else f"weights {weights}"
