"""Features and predictions as tables of other libraries: pandas, Hugging Face datasets and FiftyOne, one call each.

    frame = to_pandas("features", predictions=predict(["my_videos"]))
    to_datasets("features").to_parquet("features.parquet")
    to_fiftyone("features", "my_videos")                     # clips as spans with vectors, for FiftyOne's App

A row is a clip: `video`, `path`, `start_frame`, `end_frame` (half-open), `start_seconds`, one column of vectors per
layer, and with predictions `label` and `score` of the clip, `video_label` and `video_score` of the whole video.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.extras import require_extra
from c3dvideo.features.store import Array, VideoFeatures, descriptor, list_features, read_features
from c3dvideo.probing.descriptors import clip_vectors, some
from c3dvideo.probing.predict import ClipScore, Prediction, Predictions
from c3dvideo.progress import track
from c3dvideo.video.clip_times import clip_end_frames

if TYPE_CHECKING:
    import fiftyone
    import pandas

    import datasets


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoRows:
    """The clips of one video: their spans, float32 vectors (n_clips, D) by layer, and the prediction, if there is one.

    end_frame: int64 (n_clips,), behind the last frame of each clip.
    """

    name: str
    path: str
    start_frame: Array
    end_frame: Array
    start_seconds: Array
    vectors: Mapping[str, Array]
    prediction: Prediction | None

    @property
    def clip_scores(self) -> list[ClipScore | None]:
        """The predicted class of each clip, where one was predicted."""
        timeline = () if self.prediction is None else self.prediction.timeline
        by_start = {clip.start_frame: clip for clip in timeline}
        return [by_start.get(int(start)) for start in self.start_frame]

    def columns(self, *, with_predictions: bool) -> dict[str, Any]:
        """The rows as columns: lists, and arrays (n_clips, D)."""
        n_clips = len(self.start_frame)
        columns: dict[str, Any] = {
            "video": [self.name] * n_clips,
            "path": [self.path] * n_clips,
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
            "start_seconds": self.start_seconds,
            **self.vectors,
        }
        if with_predictions:
            best = self.prediction.top[0] if self.prediction is not None and self.prediction.top else None
            columns |= {
                "label": [None if clip is None else clip.label for clip in self.clip_scores],
                "score": [None if clip is None else clip.score for clip in self.clip_scores],
                "video_label": [None if best is None else best.label] * n_clips,
                "video_score": [None if best is None else best.score] * n_clips,
            }
        return columns


def to_pandas(
    features: str | Path, *, layers: Sequence[str] = (), predictions: Predictions | None = None
) -> "pandas.DataFrame":
    """A DataFrame with one row per clip of a folder of features; a cell of a layer is a float32 vector.

    layers: those to take, by default all. predictions: of the same videos. Raises StoreError for the folder, UsageError
    for a layer that is not stored, MissingExtraError without pandas.

    >>> frame = to_pandas("features")
    >>> len(frame), list(frame.columns)
    (120, ['video', 'path', 'start_frame', 'end_frame', 'start_seconds', 'fc6'])
    """
    require_extra("tables")
    import pandas

    parts = []
    for video in read_rows(features, layers=layers, predictions=predictions):
        columns = video.columns(with_predictions=predictions is not None)
        parts.append(pandas.DataFrame({**columns, **{name: list(rows) for name, rows in video.vectors.items()}}))
    return pandas.concat(parts, ignore_index=True)


def to_datasets(
    features: str | Path, *, layers: Sequence[str] = (), predictions: Predictions | None = None
) -> "datasets.Dataset":
    """A Hugging Face `Dataset` with one row per clip, as of `to_pandas`; its `to_parquet` writes a Parquet file.

    >>> table = to_datasets("features")
    >>> table.num_rows, len(table[0]["fc6"])
    (120, 1024)
    """
    require_extra("tables")
    import pyarrow

    import datasets

    parts = []
    for video in read_rows(features, layers=layers, predictions=predictions):
        columns = video.columns(with_predictions=predictions is not None)
        for name, rows in video.vectors.items():
            flat = pyarrow.array(np.ascontiguousarray(rows).reshape(-1))
            columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        for name in ("label", "video_label"):
            if name in columns:
                columns[name] = pyarrow.array(columns[name], pyarrow.string())
        for name in ("score", "video_score"):
            if name in columns:
                columns[name] = pyarrow.array(columns[name], pyarrow.float64())
        parts.append(pyarrow.table(columns))
    return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.concat_tables(parts)))


def to_fiftyone(
    features: str | Path, name: str, *, layers: Sequence[str] = (), predictions: Predictions | None = None
) -> "fiftyone.Dataset":
    """A new FiftyOne dataset: a sample per video, its clips as temporal detections that carry their vectors.

    name: of the dataset, which must not exist yet. Raises UsageError when it does, and without FiftyOne.

    >>> dataset = to_fiftyone("features", "my_videos")  # doctest: +SKIP
    >>> fiftyone.launch_app(dataset)  # doctest: +SKIP
    """
    if find_spec("fiftyone") is None:
        raise UsageError("FiftyOne is not installed; run: pip install fiftyone")
    import fiftyone

    if fiftyone.dataset_exists(name):
        raise UsageError(f"there is a FiftyOne dataset {name!r} already; choose another name, or delete it")
    samples = []
    for fields in fiftyone_fields(features, layers=layers, predictions=predictions):
        clips = [fiftyone.TemporalDetection(**clip) for clip in fields.pop("clips")]
        samples.append(fiftyone.Sample(**fields, clips=fiftyone.TemporalDetections(detections=clips)))
    dataset = fiftyone.Dataset(name)
    dataset.add_samples(samples, progress=False)
    return dataset


def fiftyone_fields(
    features: str | Path, *, layers: Sequence[str] = (), predictions: Predictions | None = None
) -> Iterator[dict[str, Any]]:
    """The fields of each video's sample; `clips` holds those of its temporal detections.

    FiftyOne counts frames from 1 and includes the last. A clip without prediction has the label "clip".
    """
    for video in read_rows(features, layers=layers, predictions=predictions):
        clips = [
            {
                "label": "clip" if score is None else score.label,
                "support": [int(video.start_frame[clip]) + 1, int(video.end_frame[clip])],
                **({} if score is None else {"confidence": score.score}),
                **{layer: rows[clip].tolist() for layer, rows in video.vectors.items()},
            }
            for clip, score in enumerate(video.clip_scores)
        ]
        yield {
            "filepath": str(Path(video.path).absolute()),
            "video": video.name,
            **{f"{layer}_descriptor": descriptor(rows).tolist() for layer, rows in video.vectors.items()},
            "clips": clips,
        }


def read_rows(
    features: str | Path, *, layers: Sequence[str] = (), predictions: Predictions | None = None
) -> Iterator[VideoRows]:
    """The clips of every video in a folder of features, video by video.

    Raises StoreError when there is none, UsageError when no prediction is of a video in the folder.
    """
    files = list_features(features)
    if not files:
        raise StoreError(f"{features} holds no features; make some with: c3dvideo extract VIDEOS --out {features}")
    predicted = {} if predictions is None else {each.name: each for each in predictions.predictions}
    if predicted and not predicted.keys() & {name for name, _ in files}:
        raise UsageError(
            f"predictions are of {some(list(predicted))}, features of {some([name for name, _ in files])}: give "
            "`predict` the inputs that were extracted"
        )
    for name, path in track(files, "reading features", unit="videos"):
        stored = read_features(path)
        missing = [layer for layer in layers if layer not in stored.layers]
        if missing:
            raise UsageError(f"{path} has no layer {', '.join(missing)}; it has {', '.join(stored.layers)}")
        yield VideoRows(
            name=name,
            path=str(stored.metadata.get("source", name)),
            start_frame=stored.start_frame,
            end_frame=_ends(stored),
            start_seconds=stored.start_seconds,
            vectors={layer: clip_vectors(stored.layers[layer]) for layer in layers or stored.layers},
            prediction=predicted.get(name),
        )


def _ends(stored: VideoFeatures) -> Array:
    """The frame behind each clip; pooled features have one row, which spans the video."""
    settings = stored.metadata.get("settings", {})
    plan = settings.get("plan", {})
    n_frames = stored.metadata.get("n_frames")
    span = plan.get("clip_length", 16) * plan.get("sampling_rate", 1)
    if n_frames is not None and settings.get("pool"):
        return np.full_like(stored.start_frame, n_frames)
    return clip_end_frames(stored.start_frame, span_frames=span, n_frames=n_frames)
