"""Stored features: one self-describing .npz a video, one manifest.json and one failures.jsonl a folder.

    for name, path in list_features("features/"):
        features = read_features(path)
        features.layers["fc6"]        # float32 (n_clips, 4096)
        features.start_seconds        # float64 (n_clips,)

The features of `sub/a.mp4` lie in `sub/a.mp4.npz`. A file holds one array a layer under the layer's name, `start_frame`
and `start_seconds` a clip, and `metadata`, a JSON string; numpy alone reads it. Its bytes depend on its content only.
A file appears under its name complete or not at all, whatever stops the writer.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.files import atomic_file

FORMAT = 1
MANIFEST = "manifest.json"
FAILURES = "failures.jsonl"
_OTHER_ARRAYS = ("start_frame", "start_seconds", "metadata")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """The features of one video.

    name: the video relative to the input root, with forward slashes, e.g. "sub/a.mp4".
    layers: float32 by layer name: (n_clips, D) for fc6 to prob, (n_clips, C, T, H, W) for convolutions and pools, with
        an axis of views after n_clips for five and ten crops. Pooled features have one row and no axis of views.
    start_frame: int64 (n_clips,), first frame of each clip. start_seconds: float64 (n_clips,), its time stamp.
    metadata: what can be said in JSON about source, settings and version.
    Raises StoreError when the parts do not belong together.
    """

    name: str
    layers: Mapping[str, Array]
    start_frame: Array
    start_seconds: Array
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        n_clips = len(self.start_frame)
        for name, array in self.layers.items():
            if array.dtype != np.float32 or array.ndim < 2 or len(array) != n_clips:
                raise StoreError(
                    f"{self.name}: layer {name} is {array.dtype} {array.shape}; expected float32 with {n_clips} rows"
                )
        if self.start_frame.dtype != np.int64 or self.start_seconds.dtype != np.float64:
            raise StoreError(
                f"{self.name}: start_frame is {self.start_frame.dtype} and start_seconds {self.start_seconds.dtype}; "
                "expected int64 and float64"
            )
        if not self.layers or self.start_frame.ndim != 1 or self.start_seconds.shape != self.start_frame.shape:
            raise StoreError(
                f"{self.name}: {len(self.layers)} layers, start_frame {self.start_frame.shape}, start_seconds "
                f"{self.start_seconds.shape}; expected at least one layer and one start a clip"
            )


def descriptor(array: Array) -> Array:
    """The video's descriptor, float32 (D,): the mean of its clip features (..., D), then one L2 norm.

    All leading axes (clips, views) are averaged, in float64. All-zero features stay zero.
    """
    mean = array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=np.float64)
    unit: Array = mean / (np.linalg.norm(mean) or 1.0)
    return unit.astype(np.float32)


def feature_path(folder: str | Path, name: str) -> Path:
    """Where the features of the video called `name` lie under `folder`; raises UsageError for a name that leaves it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise UsageError(f"{name!r} is no name of a video: expected a path relative to the input folder, without '..'")
    return Path(folder, *parts[:-1], parts[-1] + ".npz")


def list_features(folder: str | Path) -> list[tuple[str, Path]]:
    """The name of every video with features under `folder`, e.g. "sub/a.mp4", and its file; sorted by name."""
    root = Path(folder)
    if not root.is_dir():
        raise StoreError(f"{root} is no folder of features; make one with: c3dvideo extract VIDEOS --out {root}")
    found = (path for path in root.rglob("*.npz") if path.is_file())
    return sorted((path.relative_to(root).as_posix().removesuffix(".npz"), path) for path in found)


def read_features(path: str | Path) -> VideoFeatures:
    """The features stored in one file; raises StoreError when it is missing, damaged or something else."""
    with _opened(path) as arrays:
        metadata = json.loads(str(arrays["metadata"]))
        layers = {name: arrays[name] for name in arrays.files if name not in _OTHER_ARRAYS}
        return VideoFeatures(
            name=metadata["name"],
            layers=layers,
            start_frame=arrays["start_frame"],
            start_seconds=arrays["start_seconds"],
            metadata=metadata,
        )


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of one feature file, without its arrays; raises StoreError as `read_features` does."""
    with _opened(path) as arrays:
        return dict(json.loads(str(arrays["metadata"])))


@contextmanager
def _opened(path: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An .npz file open for reading, with every way in which it can be wrong raised as StoreError."""
    try:
        with Path(path).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            with arrays:
                yield arrays
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"{path} is no readable file of c3dvideo features ({type(error).__name__}: {error}); "
            "if it once was, delete it and extract again"
        ) from error


def write_features(path: str | Path, features: VideoFeatures) -> None:
    """Write one feature file, atomically; arrays may be memory maps and are copied in pieces.

    Raises StoreError, with the OSError as its cause, when it cannot be written; then nothing is left under `path`.
    """
    metadata = json.dumps({**features.metadata, "name": features.name}, sort_keys=True)
    arrays = {
        **features.layers,
        "start_frame": features.start_frame,
        "start_seconds": features.start_seconds,
        "metadata": np.array(metadata),
    }
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A ZipInfo made from a name alone carries the date 1980-01-01: the bytes do not depend on the clock.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What decides the numbers in a folder of features: `settings`, a JSON object, and their sha256.

    Two runs may share a folder only when their fingerprints are equal.
    """

    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 of the settings as JSON with sorted keys."""
        return sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Manifest") -> list[str]:
        """One line a setting that is not the same: "plan.stride_frames is 16 there and 8 here" (self is there)."""
        there, here = _flat(self.settings), _flat(other.settings)
        return [
            f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
            for key in sorted(there.keys() | here.keys())
            if there.get(key) != here.get(key)
        ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a folder of features, None when it has none; raises StoreError when it is damaged."""
    path = Path(folder, MANIFEST)
    try:
        return Manifest(settings=dict(json.loads(path.read_text())["settings"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it, the feature files know their settings") from error


def claim_folder(folder: str | Path, manifest: Manifest, *, version: str) -> None:
    """Make `folder` one that holds features of `manifest`, writing manifest.json where there is none.

    Raises StoreError when it holds features of other settings, naming each that differs. Hold `update_lock`.
    """
    found = read_manifest(folder)
    if found is None:
        text = {
            "format": FORMAT,
            "version": version,
            "fingerprint": manifest.fingerprint,
            "settings": manifest.settings,
        }
        _refuse_foreign_files(folder, manifest)
        with atomic_file(Path(folder, MANIFEST)) as file:
            file.write(json.dumps(text, indent=2, sort_keys=True).encode() + b"\n")
    elif found.fingerprint != manifest.fingerprint:
        raise _foreign(folder, found, manifest)


def _refuse_foreign_files(folder: str | Path, manifest: Manifest) -> None:
    """Raise StoreError when a folder without a manifest has a feature file of other settings."""
    for _, path in list_features(folder):
        try:
            settings = read_metadata(path)["settings"]
        except (StoreError, KeyError):
            continue
        if settings != manifest.settings:
            raise _foreign(path, Manifest(settings=settings), manifest)


def _foreign(where: str | Path, there: Manifest, here: Manifest) -> StoreError:
    differences = "; ".join(there.differences(here))
    return StoreError(
        f"{where} holds features of other settings: {differences}. A folder never mixes two: choose another --out, "
        "or use the settings of that folder"
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One video without features: its name and path, the stage that failed, and why."""

    name: str
    path: str
    stage: str
    message: str


def read_failures(folder: str | Path) -> list[Failure]:
    """The latest failure of each video recorded in a folder, sorted by name; a line cut off by a crash is skipped."""
    path = Path(folder, FAILURES)
    if not path.is_file():
        return []
    latest: dict[str, Failure] = {}
    for line in path.read_text().splitlines():
        try:
            failure = Failure(**json.loads(line))
        except (ValueError, TypeError):
            continue
        latest[failure.name] = failure
    return [latest[name] for name in sorted(latest)]


def append_failure(folder: str | Path, failure: Failure) -> None:
    """Record one failure at once, so that a crash does not lose it. Hold `update_lock`."""
    try:
        with Path(folder, FAILURES).open("ab") as file:
            # A line that a crash cut off must not swallow this one, so every line starts on its own.
            separator = b"" if file.tell() == 0 else b"\n"
            file.write(separator + json.dumps(asdict(failure)).encode())
    except OSError as error:
        raise StoreError(f"{Path(folder, FAILURES)} could not be written: {error.strerror or error}") from error


def settle_failures(folder: str | Path, solved: Iterable[str]) -> list[Failure]:
    """Rewrite failures.jsonl sorted and without the names in `solved`; returns what stays. Hold `update_lock`."""
    gone = set(solved)
    left = [failure for failure in read_failures(folder) if failure.name not in gone]
    path = Path(folder, FAILURES)
    if not left:
        path.unlink(missing_ok=True)
    else:
        with atomic_file(path) as file:
            file.writelines(json.dumps(asdict(failure)).encode() + b"\n" for failure in left)
    return left
