"""Every choice that a user makes among a few names, defined once for Python and the command line.

This module imports no PyTorch, so that the command line can list the choices at once.
"""

from typing import Any, Literal, get_args

from c3dvideo.errors import UsageError

LARGEST_SEED = 2**32 - 1
"""Of the random seeds that NumPy and scikit-learn take."""

# How pixels become network input (`video.preprocess`).
ChannelOrder = Literal["bgr", "rgb"]
Resize = Literal["stretch", "short_side"]
Interpolation = Literal["opencv_bilinear", "antialias_bilinear"]
Crops = Literal["centre", "five", "ten"]

# Which frames make which clip (`video.clips`).
Tail = Literal["drop", "repeat_last", "shift_back"]
Short = Literal["error", "repeat_last", "loop"]

# What becomes of a damaged video (`video.reader`).
Damaged = Literal["error", "keep"]

# The network (`network.c3d`) and how it runs (`inference`).
Pool5 = Literal["ceil", "symmetric", "floor"]
Filler = Literal["gaussian", "xavier"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]  # int8: exported files only
PrecisionChoice = Literal["auto", "fp32", "tf32", "bf16", "fp16"]  # auto: fp16 on a GPU, fp32 on a CPU
EngineName = Literal["auto", "direct", "winograd", "onnx"]
ExportFormat = Literal["onnx", "openvino", "torch-export", "torchscript"]
Port = Literal["davidea", "vgg", "mmaction2"]  # whose names a state dict takes
StoredPrecision = Literal["fp32", "fp16"]
Pool5Order = Literal["hwc", "chw"]  # the order in which fc6 of an imported file reads pool5

# What becomes of a video without descriptor (`probing.video_descriptor`).
FailedVideos = Literal["error", "nan"]

# The order of the frames of generated clips, and two controls (`probing.readout`).
FrameOrder = Literal["in order", "shuffled", "one repeated"]

# Stored features (`features`).
Pool = Literal["mean"]
Format = Literal["caffe", "npy", "activitynet", "hdf5", "ucf-crime", "tall", "crops", "csv", "parquet", "shards", "npz"]
CropLayout = Literal["xd-violence", "rtfm"]
Rounding = Literal["matlab", "python"]

# Labelled videos (`datasets`).
Layout = Literal[
    "auto", "folders", "csv", "ucf101", "hmdb51", "kinetics", "sports1m", "list", "yupenn", "maryland", "parent_folders"
]
Split = Literal["train", "val", "test", "all"]

# Training (`training.settings`).
Preset = Literal["modern", "release"]
NetworkName = Literal["c3d", "c3d_small"]
TrainFiller = Literal["he", "gaussian", "xavier"]
CopyLayers = Literal["all", "conv"]
Sampling = Literal["any", "release"]
TrainCrops = Literal["resized", "any", "release", "centre"]
TrainMean = Literal["channel", "volume", "weights"]
Balance = Literal["none", "loss", "sampling"]
Optimizer = Literal["adamw", "sgd", "release"]
Schedule = Literal["cosine", "step"]
PretrainPrecision = Literal["auto", "fp32", "bf16"]
TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]
TeacherTargets = Literal["auto", "views", "cached"]  # of distillation

# Converted video (`video.viewing`).
PieceFormat = Literal["mp4", "webm"]

# Evaluation.
Classifier = Literal["svm", "network"]
PublishedSplits = Literal["ucf101", "hmdb51"]
MapMethod = Literal["tsne", "pca"]
WebMap = Literal["pca", "tsne", "umap"]  # of the web page; umap where it is installed
PostProcessing = Literal["none", "centre"]  # of descriptors before they are compared

# Search.
SearchKind = Literal["clips", "videos"]
VectorKind = Literal["features", "directions"]  # of a clip in an index: as stored, or as it is compared

# Segments.
SegmentMethod = Literal["descriptors", "colours", "both"]

# Explanations.
ExplainMethod = Literal["gradcam", "gradcam++", "guided", "deconvolution", "units", "filters"]


def check_choice(name: str, value: object, choice: Any) -> None:
    """Raise UsageError when the argument `name` is none of the words of a Literal.

    >>> check_choice("damaged", "keep", Damaged)
    """
    if value not in get_args(choice):
        raise UsageError(f"`{name}=` is {value!r}; expected one of {', '.join(get_args(choice))}")
