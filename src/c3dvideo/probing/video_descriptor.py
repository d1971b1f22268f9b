"""VideoDescriptor: C3D descriptors as a scikit-learn transformer, paths in and one row per video out.

    classifier = make_pipeline(VideoDescriptor(stride_frames=8), LinearSVC())
    cross_val_score(classifier, paths, labels)           # every video is decoded once

Descriptors are kept in a folder of features per fingerprint, under the hash of each video's content. A renamed video is
found again, a changed one is computed again, and processes may share the folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from c3dvideo.choices import Crops, Damaged, EngineName, FailedVideos, PrecisionChoice, Short, Tail
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.features.decoding import STALL_SECONDS
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.prepare_network import prepare_network
from c3dvideo.features.store import Array
from c3dvideo.files import cache_folder
from c3dvideo.network.c3d import C3D
from c3dvideo.probing.descriptor_cache import cached_descriptors
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile

_MOST_NAMES = 5  # of failed videos in one message


class VideoDescriptor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns paths of videos into descriptors: the mean of a video's clip features, then one L2 norm.

    layer: an activation of the network, or several, each normalised by itself and placed side by side.
    weights, stride_frames, sampling_rate, tail, short, crops, profile, profile_changes, device, precision, engine,
        batch_size, workers, damaged, stall_seconds: as of `extract` and `ClipPlan`.
    cache: folder of descriptors; None is `descriptors` in the cache folder of c3dvideo, False keeps none.
    failed: a video without descriptor raises VideoError ("error"), or becomes a row of NaN ("nan") for an imputer.

    A video is a file, a frame folder or an address, whose descriptor is never cached. `fit` learns nothing about the
    videos: it checks the parameters and that every path is text, and loads the weights, so that `transform` also works
    without it. Attributes after `fit`: `fingerprint_`, of all that determines the numbers, and `n_features_out_`.

    >>> from pathlib import Path
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> paths = sorted(map(str, Path("my_videos").rglob("*.mp4")))
    >>> classifier = make_pipeline(VideoDescriptor(), LinearSVC())
    >>> classifier = classifier.fit(paths, [Path(path).parent.name for path in paths])
    >>> str(classifier.predict(["my_videos/waving_flag/waving_flag_000.mp4"])[0])
    'waving_flag'
    >>> VideoDescriptor(layer=["pool5", "fc6"]).fit(paths).get_feature_names_out()[-1]
    'fc6_1023'
    """

    def __init__(
        self,
        weights: str | Path | C3D | None = None,
        *,
        layer: str | Sequence[str] = "fc6",
        stride_frames: int = 16,
        sampling_rate: int = 1,
        tail: Tail = "drop",
        short: Short = "error",
        crops: Crops = "centre",
        profile: Profile | str | None = None,
        profile_changes: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        engine: EngineName = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        damaged: Damaged = "error",
        stall_seconds: float = STALL_SECONDS,
        cache: str | Path | bool | None = None,
        failed: FailedVideos = "error",
    ) -> None:
        self.weights = weights
        self.layer = layer
        self.stride_frames = stride_frames
        self.sampling_rate = sampling_rate
        self.tail = tail
        self.short = short
        self.crops = crops
        self.profile = profile
        self.profile_changes = profile_changes
        self.device = device
        self.precision = precision
        self.engine = engine
        self.batch_size = batch_size
        self.workers = workers
        self.damaged = damaged
        self.stall_seconds = stall_seconds
        self.cache = cache
        self.failed = failed

    def fit(self, X: Iterable[str | Path], y: object = None) -> Self:
        """Check the parameters and the paths; nothing is decoded. y is not used.

        Raises UsageError for a parameter or a path that cannot be used, WeightsError for the weights.
        """
        self._paths(X)
        self._extractor = self._make_extractor()
        self.fingerprint_ = self._extractor.manifest.fingerprint
        self.n_features_out_ = sum(self._widths(self._extractor).values())
        return self

    def transform(self, X: Iterable[str | Path]) -> Array:
        """Descriptors, float32 (n, D), of n paths.

        Raises VideoError that names the videos without descriptor, unless they become NaN; StoreError when the cache
        cannot be written.
        """
        paths = self._paths(X)
        extractor = getattr(self, "_extractor", None) or self._make_extractor()
        rows, failures = cached_descriptors(extractor, paths, self._cache_folder(), stop_early=self.failed == "error")
        if failures and self.failed == "error":
            raise VideoError(_about(failures))
        nan = np.full(sum(self._widths(extractor).values()), np.nan, np.float32)
        return np.stack([rows.get(path, nan) for path in paths]) if paths else np.zeros((0, len(nan)), np.float32)

    def get_feature_names_out(self, input_features: object = None) -> Array:
        """The name of each column, str (D,): the layer and the number of the value in it. The argument is not used."""
        widths = self._widths(getattr(self, "_extractor", None) or self._make_extractor())
        return np.array([f"{name}_{i}" for name, width in widths.items() for i in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # The network would make every pickle hundreds of megabytes; the parameters lead to it again.
        return {key: value for key, value in super().__getstate__().items() if key != "_extractor"}

    def _make_extractor(self) -> Extractor:
        if self.failed not in get_args(FailedVideos):
            wanted = " or ".join(map(repr, get_args(FailedVideos)))
            raise UsageError(f"failed is {self.failed!r}; expected {wanted}")
        network = prepare_network(self.weights, self.profile, self.profile_changes)
        return Extractor(
            network,
            layers=[self.layer] if isinstance(self.layer, str) else self.layer,
            plan=ClipPlan(
                clip_length=network.architecture["clip_length"],
                stride_frames=self.stride_frames,
                sampling_rate=self.sampling_rate,
                tail=self.tail,
                short=self.short,
            ),
            crops=self.crops,
            pool="mean",
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            batch_size=self.batch_size,
            workers=self.workers,
            damaged=self.damaged,
            stall_seconds=self.stall_seconds,
        )

    def _paths(self, X: Iterable[str | Path]) -> list[str]:
        """The paths in `X`, a list, array or column of text or Path; raises UsageError for anything else."""
        if isinstance(X, str | Path):
            raise UsageError(f"one path was given, {str(X)!r}; expected a list of paths")
        values = np.asarray(X if hasattr(X, "__array__") else list(X), dtype=object)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise UsageError(f"the paths have shape {values.shape}; expected (n,) or one column (n, 1)")
        for value in values:
            if not isinstance(value, str | Path):
                raise UsageError(f"a path is {type(value).__name__} {value!r}; expected text that names a video")
        return list(map(str, values))

    def _widths(self, extractor: Extractor) -> dict[str, int]:
        """Columns of each layer."""
        return {name: int(np.prod(extractor.network.layer_shape(name))) for name in extractor.layers}

    def _cache_folder(self) -> Path | None:
        if isinstance(self.cache, str | Path):
            return Path(self.cache)
        return None if self.cache is False else cache_folder() / "descriptors"


def _about(failures: Mapping[str, str]) -> str:
    """One message about videos without descriptor; the reasons name the paths."""
    shown = "; ".join(list(failures.values())[:_MOST_NAMES])
    more = f" and {len(failures) - _MOST_NAMES} more" * (len(failures) > _MOST_NAMES)
    advice = "Leave them out, or take `VideoDescriptor(failed='nan')`"
    return f"{len(failures)} videos have no descriptor: {shown}{more}. {advice}"
