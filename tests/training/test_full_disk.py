"""A disk that is full, and a place where nothing can be written: one line that says so, and nothing half-written."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from c3dvideo.datasets.check_dataset import check_dataset
from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import write_csv
from c3dvideo.errors import StoreError
from c3dvideo.synthetic.synthetic_videos import write_dataset
from c3dvideo.training.pretraining.pretraining_run import pretrain
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.training.run_folder import load_state
from c3dvideo.training.train import train

TINY: dict[str, Any] = {"width": 0.06, "fc_width": 16, "crop_size": 32, "batch_size": 2, "epochs": 1}


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond `n_bytes`: the system refuses as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Dataset:
    names = [f"{label}/{number}.mp4" for number in range(3) for label in "ab"]
    for seed, name in enumerate(names):
        moving_square(tmp_path / "videos" / name, n_frames=17, height=48, width=64, seed=seed)
    examples = tuple(Example(name, name[0], "val" if "2" in name else "train") for name in names)
    return Dataset(examples, ("a", "b"), root=tmp_path / "videos")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".tmp", ".part") or path.name == ".decoding"]


@pytest.mark.parametrize(
    ("n_bytes", "cache", "named"),
    [
        (100, "none", r"run/recipe\.json could not be written: the file would be larger"),
        (50_000, None, r"decoded frames cannot be kept in .*frames: the file would be larger"),
        (50_000, "none", r"checkpoints/last\.ckpt could not be written: the file would be larger"),
    ],
)
def test_train(tmp_path: Path, videos: Dataset, n_bytes: int, cache: str | None, named: str) -> None:
    with largest_file(n_bytes), pytest.raises(StoreError, match=named):
        train(videos, tmp_path / "run", cache=cache, **TINY)
    assert not leftovers(tmp_path / "run")


def test_pretrain(tmp_path: Path) -> None:
    narrow = PretrainSettings(
        stages=((4,),) * 5, fc_width=8, filter_clips=2, fc_clips=2, everyday_clips=2, precision="fp32"
    )
    with largest_file(500), pytest.raises(StoreError, match=r"recipe\.json could not be written"):
        pretrain(tmp_path / "run", settings=narrow, device="cpu")
    with largest_file(1500), pytest.raises(StoreError, match=r"convolutions\.pt could not be written"):
        pretrain(tmp_path / "run", settings=narrow, device="cpu")
    assert not leftovers(tmp_path / "run")
    assert not (tmp_path / "run/convolutions.pt").exists()
    with largest_file(6000), pytest.raises(StoreError, match=r"convolutions\.pt could not be written"):
        pretrain(tmp_path / "run", settings=narrow, device="cpu")
    assert not leftovers(tmp_path / "run")
    done = load_state(tmp_path / "run/convolutions.pt")  # complete: of the layers that were fitted before
    assert list(done) == ["conv1a", "conv2a"][: len(done)]
    assert done


def test_tables_and_generated_videos(tmp_path: Path, videos: Dataset) -> None:
    with largest_file(20), pytest.raises(StoreError, match=r"split\.csv could not be written"):
        write_csv(videos, tmp_path / "split.csv")
    with largest_file(40), pytest.raises(StoreError, match=r"good\.csv could not be written"):
        check_dataset(videos, tmp_path / "check", workers=0)
    with largest_file(1000), pytest.raises(StoreError, match=r"_000\.mp4 could not be written"):
        write_dataset(tmp_path / "generated", clips_per_class=1, n_frames=17, height=64, width=64)
    assert {path.name for path in tmp_path.rglob("*.*") if "videos" not in str(path)} == {"problems.csv"}


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, videos: Dataset) -> None:
    (tmp_path / "file").write_bytes(b"")
    out = tmp_path / "file/out"
    for write in (
        lambda: train(videos, out, cache="none", **TINY),
        lambda: pretrain(out, device="cpu"),
        lambda: write_csv(videos, out),
        lambda: check_dataset(videos, out),
        lambda: write_dataset(out, clips_per_class=1, n_frames=17, height=64, width=64),
    ):
        with pytest.raises(StoreError, match="could not be written: a part of its path is a file, not a folder"):
            write()
