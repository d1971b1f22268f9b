"""c3dvideo: C3D video features, exact, fast and trainable.

    from c3dvideo import extract, read_features

    extract(["my_videos"], "features")                               # one .npz per video
    read_features("features/a.mp4.npz").layers["fc6"]                # float32 (n_clips, D)

Networks      C3D, c3d, c3d_plain, c3d_small
Weights       load_weights, import_weights
Videos        read_clips, ClipPlan, Profile, PROFILES
Features      extract, Extractor, list_features, read_features, descriptor, convert
Tables        to_pandas, to_datasets, to_fiftyone
Classifiers   read_labelled, fit_probe, score_probe, Probe, predict, VideoDescriptor
Training      train, ClipDataset, ClipDataModule
Errors        C3DVideoError

These names are the public interface; every other one may change. They are imported on first use, so that
`import c3dvideo` imports neither PyTorch nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "C3D": "network.c3d",
    "C3DVideoError": "errors",
    "ClipDataModule": "training.clip_data_module",
    "ClipDataset": "training.clip_dataset",
    "ClipPlan": "video.clips",
    "Extractor": "features.extractor",
    "PROFILES": "video.preprocess",
    "Probe": "probing.probe",
    "Profile": "video.preprocess",
    "VideoDescriptor": "probing.video_descriptor",
    "c3d": "network.c3d",
    "c3d_plain": "network.c3d",
    "c3d_small": "network.c3d",
    "convert": "features.convert",
    "descriptor": "features.store",
    "extract": "features.extract",
    "fit_probe": "probing.probe",
    "import_weights": "weights.import_weights",
    "list_features": "features.store",
    "load_weights": "weights.load",
    "predict": "probing.predict",
    "read_clips": "video.reader",
    "read_features": "features.store",
    "read_labelled": "probing.labelled",
    "score_probe": "probing.probe_score",
    "to_datasets": "probing.other_libraries",
    "to_fiftyone": "probing.other_libraries",
    "to_pandas": "probing.other_libraries",
    "train": "training.train",
}

__all__ = [
    "C3D",
    "PROFILES",
    "C3DVideoError",
    "ClipDataModule",
    "ClipDataset",
    "ClipPlan",
    "Extractor",
    "Probe",
    "Profile",
    "VideoDescriptor",
    "c3d",
    "c3d_plain",
    "c3d_small",
    "convert",
    "descriptor",
    "extract",
    "fit_probe",
    "import_weights",
    "list_features",
    "load_weights",
    "predict",
    "read_clips",
    "read_features",
    "read_labelled",
    "score_probe",
    "to_datasets",
    "to_fiftyone",
    "to_pandas",
    "train",
]

if TYPE_CHECKING:
    from c3dvideo.errors import C3DVideoError
    from c3dvideo.features.convert import convert
    from c3dvideo.features.extract import extract
    from c3dvideo.features.extractor import Extractor
    from c3dvideo.features.store import descriptor, list_features, read_features
    from c3dvideo.network.c3d import C3D, c3d, c3d_plain, c3d_small
    from c3dvideo.probing.labelled import read_labelled
    from c3dvideo.probing.other_libraries import to_datasets, to_fiftyone, to_pandas
    from c3dvideo.probing.predict import predict
    from c3dvideo.probing.probe import Probe, fit_probe
    from c3dvideo.probing.probe_score import score_probe
    from c3dvideo.probing.video_descriptor import VideoDescriptor
    from c3dvideo.training.clip_data_module import ClipDataModule
    from c3dvideo.training.clip_dataset import ClipDataset
    from c3dvideo.training.train import train
    from c3dvideo.video.clips import ClipPlan
    from c3dvideo.video.preprocess import PROFILES, Profile
    from c3dvideo.video.reader import read_clips
    from c3dvideo.weights.import_weights import import_weights
    from c3dvideo.weights.load import load_weights


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'c3dvideo' has no attribute {name!r}")
    return getattr(import_module(f"c3dvideo.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
