"""Every kind of foreign file that the product reads: how to make a good one, and the call that reads it."""

import bz2
import importlib.util
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from c3dvideo import C3D
from c3dvideo.datasets.annotations import read_aslan, read_frame_labels
from c3dvideo.datasets.layouts import (
    read_hmdb51,
    read_kinetics,
    read_lists,
    read_sports1m,
    read_ucf101,
)
from c3dvideo.datasets.lists import read_csv
from c3dvideo.features.convert import PcaBasis, convert, fit_pca
from c3dvideo.features.failures import Failure, append_failure, read_failures, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder, read_manifest
from c3dvideo.features.store import VideoFeatures, read_features, read_metadata, write_features
from c3dvideo.probing.labelled import read_labelled
from c3dvideo.probing.probe import Probe, fit_probe
from c3dvideo.training.frames import load_frames
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import CAFFE
from c3dvideo.video.reader import read_clips
from c3dvideo.video.sources import find_sources
from c3dvideo.weights.formats.caffe import write_blob
from c3dvideo.weights.import_weights import import_weights, read_class_names, read_mean

TESTS = Path(__file__).parents[1]
Make = Callable[[Path], None]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file: `make` fills a folder, `read` reads it again, and of the files in it `mutate` is damaged."""

    name: str
    make: Make
    mutate: str
    read: Read
    slow: bool = field(default=False)


def kinds() -> tuple[Kind, ...]:
    """All of them; making the good files of all takes some seconds."""
    return (*_of_features(), *_of_tables(), *_of_weights(), *_of_videos())


# Features ------------------------------------------------------------------------------------------------------------


def _features(name: str, *, n_clips: int = 6, crops: bool = False) -> VideoFeatures:
    draw = np.random.default_rng(len(name))
    start = np.arange(n_clips, dtype=np.int64) * 16
    plan = {"clip_length": 16, "stride_frames": 16, "sampling_rate": 1}
    metadata = {
        "source": f"videos/{name}",
        "fps": "25",
        "n_frames": n_clips * 16,
        "n_clips": n_clips,
        "frames_folder": False,
        "content_sha256": "0" * 64,
        "settings": {"weights": "aa", "plan": plan, "pool": None, "layers": ["fc6"]},
        "fingerprint": "bb",
    }
    layers = {"fc6": draw.gamma(1, 1, (n_clips, 5, 7) if crops else (n_clips, 7)).astype(np.float32)}
    return VideoFeatures(name=name, layers=layers, start_frame=start, start_seconds=start / 25, metadata=metadata)


def _of_features() -> Iterator[Kind]:
    def stored(folder: Path) -> None:
        write_features(folder / "f" / "a.mp4.npz", _features("a.mp4"))

    def by_numpy(folder: Path) -> None:
        stored(folder)
        with np.load(folder / "f" / "a.mp4.npz") as arrays:
            np.savez_compressed(folder / "f" / "a.mp4.npz", **dict(arrays))

    def everything(folder: Path) -> None:
        with suppress_refusals():
            read_metadata(folder / "f" / "a.mp4.npz")
        read_features(folder / "f" / "a.mp4.npz")

    yield Kind("features", stored, "f/a.mp4.npz", everything)
    yield Kind("features by numpy", by_numpy, "f/a.mp4.npz", everything)

    for to in ("caffe", "npy", "activitynet", "hdf5", "ucf-crime", "tall", "csv", "parquet"):

        def converted(folder: Path, to: Any = to) -> None:
            shutil.rmtree(folder / "out", ignore_errors=True)
            convert(folder / "f", to=to, out=folder / "out" / "x")

        yield Kind(f"convert {to}", stored, "f/a.mp4.npz", converted)

    def with_probe(folder: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(20, 6))
        names = [f"{'ab'[i % 2]}/{i}.mp4" for i in range(20)]
        lines = "\n".join(",".join([name, *map(str, row)]) for name, row in zip(names, rows, strict=True))
        (folder / "t.csv").write_text("path,x0,x1,x2,x3,x4,x5\n" + lines + "\n")
        fit_probe(read_labelled([folder / "t.csv"], labels=None), folds=2).save(folder / "probe.npz")

    yield Kind("probe", with_probe, "probe.npz", lambda folder: Probe.load(folder / "probe.npz"))

    def with_basis(folder: Path) -> None:
        fit_pca([np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)], n_components=2).save(
            folder / "basis.npz"
        )

    yield Kind("PCA basis", with_basis, "basis.npz", lambda folder: PcaBasis.load(folder / "basis.npz"))

    settings = {"weights": "aa", "plan": {"stride_frames": 16}, "layers": ["fc6"]}

    def with_manifest(folder: Path) -> None:
        claim_folder(folder, Manifest(settings=settings), version="1")

    def manifest(folder: Path) -> None:
        read_manifest(folder)
        claim_folder(folder, Manifest(settings=settings), version="1")

    yield Kind("manifest", with_manifest, "manifest.json", manifest)

    def with_failures(folder: Path) -> None:
        for name in ("a", "b", "c"):
            append_failure(folder, Failure(name=name, path=f"v/{name}", stage="decode", message="is damaged"))

    def failures(folder: Path) -> None:
        read_failures(folder)
        settle_failures(folder, solved=["a"])

    yield Kind("failures", with_failures, "failures.jsonl", failures)


def suppress_refusals() -> Any:
    """A context in which refusals are fine, so that a second reader is also tried."""
    from c3dvideo.errors import C3DVideoError

    return suppress(C3DVideoError)


# Tables --------------------------------------------------------------------------------------------------------------


def _of_tables() -> Iterator[Kind]:
    labels = "path,label,split,group,start_seconds,end_seconds\n" + "".join(
        f"v/{'ab'[i % 2]}{i}.mp4,{'ab'[i % 2]},{('train', 'test')[i // 4]},g{i % 3},{i}.5,{i + 2}\n" for i in range(8)
    )
    table = "path,x0,x1,x2\n" + "".join(f"{'ab'[i % 2]}/{i}.mp4,{i}.5,-1e-3,{i * 7}\n" for i in range(8))
    yield _text_kind("labels", "labels.csv", labels, lambda f: read_csv(f / "labels.csv", root=f))
    yield _text_kind("inputs", "list.csv", "path,note\na.mp4,x\nb.mp4,y\n", lambda f: find_sources([f / "list.csv"]))
    yield _text_kind(
        "descriptors", "t.csv", table, lambda f: read_labelled([f / "t.csv"], labels=None, group_pattern=r"(\w)/")
    )
    frames = "path,start_frame,end_frame,label,split\n" + "".join(
        f"a.mp4,{i * 9},{i * 9 + 5},x,train\n" for i in range(5)
    )
    yield _text_kind("frame labels", "l.csv", frames, lambda f: read_frame_labels(f / "l.csv"))
    lists = "".join(f"v/a{i}.avi {i * 16} {i % 3}\nframes/b{i}/ {i + 1} {i % 3}\n" for i in range(4))

    def read_release(folder: Path) -> object:
        (folder / "test_01.lst").write_text("v/z.avi 0 1\n")
        return read_lists(folder)

    yield _text_kind("list of the release", "train_01.lst", lists, read_release)

    def ucf101(folder: Path) -> object:
        (folder / "testlist01.txt").write_text("Run/v_Run_g02_c01.avi\n")
        return read_ucf101(folder / "videos", folder)

    train = "Run/v_Run_g01_c01.avi 1\nJump/v_Jump_g01_c01.avi 2\n"
    yield _text_kind("UCF101 list", "trainlist01.txt", train, ucf101, others={"classInd.txt": "1 Run\n2 Jump\n"})
    yield _text_kind("UCF101 classes", "classInd.txt", "1 Run\n2 Jump\n", ucf101, others={"trainlist01.txt": train})
    hmdb = "a.avi 1\nb.avi 2\nc.avi 0\n"
    yield _text_kind("HMDB51 list", "run_test_split1.txt", hmdb, lambda f: read_hmdb51(f / "videos", f))
    kinetics = "label,youtube_id,time_start,time_end,split\nrun,abcdefghijk,1,11,train\n"
    yield _text_kind("Kinetics", "k.csv", kinetics, lambda f: read_kinetics(f / "videos", f / "k.csv"))

    def sports1m(folder: Path) -> object:
        (folder / "test_partition.txt").write_text("https://youtube.com/watch?v=zz 0\n")
        return read_sports1m(folder / "videos", folder)

    partition = "https://youtube.com/watch?v=ab 0,1\nhttps://youtube.com/watch?v=cd 1\n"
    yield _text_kind("Sports-1M list", "train_partition.txt", partition, sports1m, others={"labels.txt": "run\njump\n"})
    pairs = "first,second,same,fold\n" + "".join(f"{i},{i + 1},{i % 2},{i % 10 + 1}\n" for i in range(20))
    yield _text_kind("ASLAN pairs", "pairs.csv", pairs, lambda f: read_aslan(f / "pairs.csv"))
    yield _text_kind("class names", "c.txt", "1 run\n2 jump\n", lambda f: read_class_names(f / "c.txt"))

    def with_matrix(folder: Path) -> None:
        (folder / "labels.csv").write_text("path,label\n" + "".join(f"{i}.mp4,{'ab'[i % 2]}\n" for i in range(6)))
        np.save(folder / "m.npy", np.random.default_rng(0).normal(size=(6, 4)))

    yield Kind("matrix", with_matrix, "m.npy", lambda f: read_labelled([f / "m.npy"], labels=f / "labels.csv"))


def _text_kind(name: str, file: str, text: str, read: Read, *, others: dict[str, str] | None = None) -> Kind:
    def make(folder: Path) -> None:
        (folder / "videos" / "run").mkdir(parents=True)
        for stem in ("a.avi", "b.avi", "v_Run_g01_c01.avi", "ab.mp4"):
            (folder / "videos" / "run" / stem).write_bytes(b"")
        for path, content in {file: text, **(others or {})}.items():
            (folder / path).write_text(content)

    return Kind(name, make, file, read)


# Weights -------------------------------------------------------------------------------------------------------------


def _of_weights() -> Iterator[Kind]:
    formats = _module(TESTS / "weights" / "test_formats.py")
    network: C3D = formats.network()
    arrays = formats.arrays_of(network)

    def with_folder(folder: Path) -> None:
        network.save_pretrained(folder / "w")

    def load(folder: Path) -> object:
        return C3D.from_pretrained(folder / "w")

    yield Kind("weights config", with_folder, "w/config.json", load, slow=True)
    yield Kind("weights folder", with_folder, "w/model.safetensors", load, slow=True)

    for writer, suffix in (
        ("caffe", "caffemodel"),
        ("davidea", "pth"),
        ("mmaction2", "pth"),
        ("safetensors", "safetensors"),
        ("lasagne", "pkl"),
        ("keras_theano", "h5"),
        ("keras_tensorflow", "h5"),
        ("chainer", "npz"),
        ("tensorflow", "npz"),
        ("onnx_graph", "onnx"),
    ):

        def make(folder: Path, writer: str = writer, suffix: str = suffix) -> None:
            getattr(formats, writer)(arrays, folder / f"w.{suffix}")

        def read(folder: Path, suffix: str = suffix) -> object:
            return import_weights(folder / f"w.{suffix}")

        yield Kind(f"weights of {writer}", make, f"w.{suffix}", read, slow=True)

    checkpoints = sorted(path for path in (TESTS / "golden" / "tensorflow").iterdir() if path.suffix == ".ckpt")
    for path in checkpoints[:1]:

        def copy(folder: Path, path: Path = path) -> None:
            shutil.copy(path, folder / path.name)

        yield Kind("TensorFlow checkpoint", copy, path.name, lambda f, n=path.name: import_weights(f / n), slow=True)

    mean = np.random.default_rng(0).uniform(80, 120, (3, 16, 12, 12)).astype(np.float32)

    def with_means(folder: Path) -> None:
        np.save(folder / "mean.npy", mean)
        (folder / "mean.npy.bz2").write_bytes(bz2.compress((folder / "mean.npy").read_bytes()))
        write_blob(folder / "mean.binaryproto", mean[None])

    for file in ("mean.npy", "mean.npy.bz2", "mean.binaryproto"):
        yield Kind(file, with_means, file, lambda f, file=file: read_mean(f / file))


def _module(path: Path) -> ModuleType:
    """A module of tests, for its writers of other projects' formats."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Videos --------------------------------------------------------------------------------------------------------------


def _pictures(n_frames: int = 24) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    ground = draw.integers(0, 120, (48, 64, 3), dtype=np.uint8)
    for number in range(n_frames):
        picture = ground.copy()
        picture[10:30, 2 * number : 2 * number + 12] = 230
        yield picture


def _of_videos() -> Iterator[Kind]:
    plan = ClipPlan(stride_frames=8)

    def decode(path: Path) -> None:
        for clip in read_clips(path, plan=plan):
            assert np.asarray(clip.views if hasattr(clip, "views") else 0) is not None

    for file, codec, pixels in (
        ("h264.mp4", "libx264", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("ffv1.mkv", "ffv1", "yuv420p"),
        ("mjpeg.mov", "mjpeg", "yuvj420p"),
        ("mpeg2.ts", "mpeg2video", "yuv420p"),
        ("mpeg1.mpg", "mpeg1video", "yuv420p"),
        ("anim.gif", "gif", "rgb8"),
        ("wmv2.wmv", "wmv2", "yuv420p"),
        ("flv1.flv", "flv1", "yuv420p"),
    ):

        def make(folder: Path, file: str = file, codec: str = codec, pixels: str = pixels) -> None:
            write_video(folder / file, _pictures(), codec=codec, pixel_format=pixels)

        yield Kind(f"video {file}", make, file, lambda f, file=file: decode(f / file), slow=True)

    from PIL import Image

    for suffix in ("jpg", "png", "bmp", "webp"):

        def frames(folder: Path, suffix: str = suffix) -> None:
            (folder / "frames").mkdir()
            for number, picture in enumerate(_pictures(17), start=1):
                Image.fromarray(picture).save(folder / "frames" / f"{number:06d}.{suffix}")

        yield Kind(f"frames of {suffix}", frames, f"frames/000005.{suffix}", lambda f: decode(f / "frames"))

    def with_cache(folder: Path) -> None:
        (folder / "v").mkdir()
        write_video(folder / "v" / "a.mp4", _pictures())
        (folder / "v" / "labels.csv").write_text("path,label\na.mp4,x\n")
        use_cache(folder)
        (index,) = (folder / "cache").glob("*.jsonl")
        shutil.copy(index, folder / "index.jsonl")

    def use_cache(folder: Path) -> None:
        if (folder / "index.jsonl").exists():
            (target,) = (folder / "cache").glob("*.jsonl")
            shutil.copy(folder / "index.jsonl", target)
        frames = load_frames(read_csv(folder / "v" / "labels.csv", root=folder / "v"), CAFFE, cache=folder / "cache")
        n_frames = int(frames.n_frames[0])
        assert len(frames.clip(0, np.arange(16) % n_frames)) == 16

    yield Kind("index of a frame cache", with_cache, "index.jsonl", use_cache, slow=True)


def made(kind: Kind, folder: Path) -> bytes:
    """Make the good files of a kind and check that they are read; returns the bytes to damage."""
    torch.set_num_threads(1)
    random.seed(0)
    folder.mkdir(parents=True)
    kind.make(folder)
    good = (folder / kind.mutate).read_bytes()
    kind.read(folder)
    (folder / kind.mutate).write_bytes(good)
    return good


def describe(found: tuple[Kind, ...]) -> str:
    """The names of all kinds as JSON."""
    return json.dumps([kind.name for kind in found])
