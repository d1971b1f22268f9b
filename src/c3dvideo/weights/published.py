"""Table of published weight files, and download of those with a direct address.

    for entry in PUBLISHED.values(): print(entry.name, entry.urls[0])
    folder = fetch("sports1m")              # downloads, verifies and converts it once; later calls use the cache

No publisher states checksums for the Sports-1M network. The available facts about a file (size, hash, number of
parameters) are checked.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from c3dvideo.errors import DownloadError, UsageError, WeightsError
from c3dvideo.files import cache_folder
from c3dvideo.weights.download import download

NONCOMMERCIAL = "from a release under CC BY-NC 3.0 (non-commercial); no separate licence is stated for the weights"
HashKind = Literal["sha256", "sha1", "git-blob"]


@dataclass(frozen=True, kw_only=True)
class Hash:
    """A hash of a file, or its first digits: sha256, sha1, or the sha1 of a git blob."""

    kind: HashKind
    digits: str

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` has this hash."""
        return self.of(path).startswith(self.digits)

    def of(self, path: Path) -> str:
        """The full hash of this kind of the file at `path`."""
        digest = hashlib.sha256() if self.kind == "sha256" else hashlib.sha1(usedforsecurity=False)
        if self.kind == "git-blob":
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file.

    urls: tried in order when `fetchable`; else pages for a manual download, followed by an import.
    size: bytes, None if unknown. n_parameters: parameters of the network, None if unknown.
    mean: name of the entry with the mean volume of these weights.
    importable: whether `c3dvideo weights import` reads the format.
    """

    name: str
    what: str
    urls: tuple[str, ...]
    fetchable: bool = False
    importable: bool = True
    size: int | None = None
    hash: Hash | None = None
    n_parameters: int | None = None
    mean: str | None = None
    licence: str = NONCOMMERCIAL

    @property
    def is_network(self) -> bool:
        """Whether the file holds a network; False for a mean volume."""
        return not self.name.endswith("_mean")

    @property
    def filename(self) -> str:
        """Name of the file in the cache folder."""
        return self.urls[0].split("?")[0].rsplit("/", 1)[-1]


_SPORTS1M, _UCF101 = 79_991_015, 78_409_573
_APACHE = "Apache-2.0 project; the network was converted from the authors' non-commercial release"
_GIT = "https://raw.githubusercontent.com/facebookarchive/C3D/HEAD/C3D-v1.0/examples/c3d_feature_extraction/"
_DROPBOX = "https://www.dropbox.com/s/"
_MMACTION = "https://download.openmmlab.com/mmaction/recognition/c3d/"
_RELEASE = "conv3d_deepnetA_sport1m_iter_1900000"

PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (
        Published(
            name="sports1m",
            what="the authors' Sports-1M network (I380K, then Sports-1M; 487 classes), Caffe",
            urls=(f"http://vlg.cs.dartmouth.edu/c3d/{_RELEASE}", f"{_DROPBOX}vr8ckp0pxgbldhs/{_RELEASE}?dl=1"),
            fetchable=True,
            n_parameters=_SPORTS1M,
            mean="sports1m_mean",
        ),
        Published(
            name="sports1m_mean",
            what="mean volume of the Sports-1M network, Caffe binaryproto (1, 3, 16, 128, 171)",
            urls=(f"{_GIT}sport1m_train16_128_mean.binaryproto",),
            fetchable=True,
            size=4_202_513,
            hash=Hash(kind="git-blob", digits="85608a7a4de476457ee5dfa14857b9ad16f5d913"),
        ),
        Published(
            name="ucf101",
            what="the authors' network fine-tuned on UCF101 split 1 (101 classes), Caffe",
            urls=(f"{_DROPBOX}mkc9q7g4wnqnmcv/c3d_ucf101_finetune_whole_iter_20000?dl=1",),
            fetchable=True,
            n_parameters=_UCF101,
            mean="ucf101_mean",
        ),
        Published(
            name="ucf101_mean",
            what="mean volume of UCF101 split 1, float64 npy.bz2 (3, 16, 128, 171)",
            urls=(
                "https://raw.githubusercontent.com/axon-research/c3d-keras/HEAD/data/train01_16_128_171_mean.npy.bz2",
            ),
            fetchable=True,
            size=3_110_286,
            hash=Hash(kind="git-blob", digits="b4a5dee3b4ab5c26113f9b1e4d96b15d941b7428"),
        ),
        Published(
            name="i380k_mean",
            what="mean volume of the I380K network, whose weights were never released (1, 3, 16, 128, 128)",
            urls=(f"{_GIT}fb_train16_128_mean.binaryproto",),
            fetchable=True,
            hash=Hash(kind="git-blob", digits="c3d8db1cc7814b85e36e99932dedf7964dbcfc62"),
        ),
        Published(
            name="davidea",
            what="Sports-1M network in PyTorch (DavideA/c3d-pytorch, 487 classes)",
            urls=("http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",),
            fetchable=True,
            n_parameters=_SPORTS1M,
        ),
        Published(
            name="jfzhang",
            what="Sports-1M network without fc8 in PyTorch (jfzhang95/pytorch-video-recognition)",
            urls=("https://drive.google.com/file/d/19NWziHWh1LgCcHU34geoKwYezAogv9fX",),
        ),
        Published(
            name="vip",
            what="Sports-1M network without fc8 in PyTorch (MichiganCOG/ViP)",
            urls=("https://umich.box.com/shared/static/znmyt8uph3w7bjxoevg7pukfatyu3z6k.pth",),
            fetchable=True,
            mean="vip_mean",
        ),
        Published(
            name="vip_mean",
            what="Sports-1M mean volume as npy (1, 3, 16, 128, 171)",
            urls=("https://umich.box.com/shared/static/ppbnldsa5rty615osdjh2yi8fqcx0a3b.npy",),
            fetchable=True,
        ),
        Published(
            name="mmaction2",
            what="Sports-1M network without fc8 in PyTorch (mmaction2 pretraining file)",
            urls=(f"{_MMACTION}c3d_sports1m_pretrain_20201016-dcc47ddc.pth",),
            fetchable=True,
            hash=Hash(kind="sha256", digits="dcc47ddc"),
            licence=_APACHE,
        ),
        Published(
            name="mmaction2_ucf101",
            what="mmaction2's network fine-tuned on UCF101 split 1 with its own recipe (101 classes)",
            urls=(
                f"{_MMACTION}c3d_sports1m_16x1x1_45e_ucf101_rgb/c3d_sports1m_16x1x1_45e_ucf101_rgb_20201021-26655025.pth",
            ),
            fetchable=True,
            hash=Hash(kind="sha256", digits="26655025"),
            n_parameters=_UCF101,
            licence=_APACHE,
        ),
        Published(
            name="mmaction2_ucf101_2022",
            what="the same fine-tuning, retrained with mmaction2 1.x (101 classes)",
            urls=(
                "https://download.openmmlab.com/mmaction/v1.0/recognition/c3d/"
                "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb/"
                "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb_20220811-31723200.pth",
            ),
            fetchable=True,
            hash=Hash(kind="sha256", digits="31723200"),
            n_parameters=_UCF101,
            licence=_APACHE,
        ),
        Published(
            name="lasagne",
            what="Sports-1M network as a list of arrays (Lasagne recipes)",
            urls=("https://s3.amazonaws.com/lasagne/recipes/pretrained/c3d/c3d_model.pkl",),
            fetchable=True,
            size=319_965_140,
            n_parameters=_SPORTS1M,
            mean="lasagne_mean",
        ),
        Published(
            name="lasagne_mean",
            what="mean volume that Lasagne's recipe subtracts, float64 npy (3, 16, 128, 171)",
            urls=("https://s3.amazonaws.com/lasagne/recipes/pretrained/c3d/snipplet_mean.npy",),
            fetchable=True,
            size=8_405_088,
        ),
        Published(
            name="keras",
            what="Sports-1M network in Keras, Theano order (keras-model-zoo)",
            urls=(f"{_DROPBOX}ypiwalgtlrtnw8b/c3d-sports1M_weights.h5?dl=1",),
            fetchable=True,
            n_parameters=_SPORTS1M,
        ),
        Published(
            name="keras_tf",
            what="Sports-1M network in Keras, TensorFlow order (axon-research/c3d-keras makes it; copies elsewhere)",
            urls=("https://drive.google.com/file/d/1rlZ-xTkTMjgWKiQFUedRnHlDgQwx6yTm",),
        ),
        Published(
            name="tensorflow",
            what="Sports-1M and UCF101 networks as TensorFlow checkpoints (links in the README)",
            urls=("https://github.com/hx173149/C3D-tensorflow",),
        ),
        Published(
            name="gluoncv",
            what="C3D trained from scratch on Kinetics-400 (400 classes, top-1 59.5), ONNX",
            urls=("https://apache-mxnet.s3-us-west-2.amazonaws.com/onnx/models/gluoncv-c3d_kinetics400-aa2b70ec.onnx",),
            fetchable=True,
            licence="Apache-2.0 (GluonCV)",
        ),
        Published(
            name="gluoncv_mxnet",
            what="the same network for MXNet; import the ONNX file instead",
            urls=(
                "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/c3d_kinetics400-a007b5fa.zip",
            ),
            importable=False,
            hash=Hash(kind="sha1", digits="a007b5faf2927c5c4afe78db40756273f33a84e6"),
            licence="Apache-2.0 (GluonCV)",
        ),
        Published(
            name="torch7",
            what="Sports-1M network for Torch7 (gulvarol/ltc); import another copy instead",
            urls=("https://lsh.paris.inria.fr/LTC/c3d.t7",),
            importable=False,
        ),
        Published(
            name="chainer",
            what="Sports-1M network for Chainer; import another copy instead",
            urls=("https://github.com/ikeyasu/c3d-chainer/releases/tag/201712124",),
            importable=False,
        ),
    )
}


EMBEDDED_ENTRY = Published(
    name="embedded",
    what="the default, part of this package: 1,024 numbers per clip; trained on still pictures and generated clips",
    urls=(),
    licence="Apache-2.0",
)


def fetch(name: str) -> Path:
    """The weights folder of a published network, which is downloaded, verified and converted unless it is cached.

    Raises DownloadError when the download fails, WeightsError when the file differs from the published one, UsageError
    when `name` is a mean volume.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    entry = PUBLISHED[name]
    folder = cache_folder() / "weights" / name
    if (folder / "config.json").is_file():
        return folder
    if not entry.is_network:
        raise UsageError(f"{name} is a mean volume, not weights: give the file to `c3dvideo weights import --mean`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder.parent / f".{name}.lock"):
        if not (folder / "config.json").is_file():
            _convert(entry, folder)
    return folder


def fetch_file(entry: Published) -> Path:
    """The path of the verified published file in the cache folder. A file of the wrong size or hash is removed."""
    path = cache_folder() / "downloads" / entry.filename
    if not entry.fetchable:
        urls = " or ".join(entry.urls)
        raise DownloadError(f"{entry.name} cannot be fetched by a program: get it from {urls}, {_by_hand(entry)}")
    if not path.is_file():
        failures = []
        for url in entry.urls:
            try:
                download(url, path)
                break
            except DownloadError as error:
                failures.append(str(error))
        else:
            raise DownloadError(f"{'; '.join(failures)}; get the file elsewhere, {_by_hand(entry)}")
    wrong = None
    if entry.size is not None and path.stat().st_size != entry.size:
        wrong = f"has {path.stat().st_size} bytes, expected {entry.size}"
    elif entry.hash is not None and not entry.hash.matches(path):
        wrong = f"has {entry.hash.kind} {entry.hash.of(path)}, expected {entry.hash.digits}"
    if wrong:
        path.unlink()
        raise DownloadError(f"{entry.filename} from {entry.urls[0]} {wrong}; the file was removed, try again later")
    return path


def _convert(entry: Published, folder: Path) -> None:
    from c3dvideo.network.folder import save_folder
    from c3dvideo.weights.import_weights import import_weights

    file = fetch_file(entry)
    mean = fetch_file(PUBLISHED[entry.mean]) if entry.mean else None
    network = import_weights(file, mean=mean)
    found = sum(parameter.numel() for parameter in network.parameters())
    if entry.n_parameters is not None and found != entry.n_parameters:
        file.unlink()
        raise WeightsError(
            f"{file.name} holds a network of {found:,} parameters, the published one has {entry.n_parameters:,}; "
            "the file was removed, try again later"
        )
    network.provenance |= {"published": entry.name, "url": entry.urls[0], "licence": entry.licence}
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        save_folder(network, partial)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # of a save that failed; otherwise it has its final name
    for each in (file, mean):
        if each is not None:
            each.unlink(missing_ok=True)


def _by_hand(entry: Published) -> str:
    mean = " --mean FILE" if entry.mean else ""
    return f"then run `c3dvideo weights import FILE{mean} --out DIR` and give DIR instead of the name"
