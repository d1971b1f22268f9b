"""The manifest of a folder of features: the settings that determine its numbers, so that a folder never mixes two.

    claim_folder("features/", Manifest(settings=extractor.settings), version="1.0")
    read_manifest("features/").fingerprint

`manifest.json` holds the settings of the extraction and their sha256. Two runs may share a folder only when these are
equal.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from c3dvideo.errors import StoreError
from c3dvideo.features.parquet_shards import MANIFEST, manifest_file, videos_in_shards
from c3dvideo.features.store import FORMAT, list_features, read_metadata
from c3dvideo.files import atomic_file, writing
from c3dvideo.reading import read_json
from c3dvideo.storage import Location, ObjectPath, location


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What determines the numbers in a folder of features: `settings`, a JSON object, and their sha256.

    Two runs may share a folder only when their fingerprints are equal.
    """

    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 of the settings as JSON with sorted keys."""
        return sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def differences(self, other: "Manifest") -> list[str]:
        """One line per setting that is not the same: "plan.stride_frames is 16 there and 8 here" (self is there)."""
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


def read_manifest(folder: str | Location) -> Manifest | None:
    """The manifest of a folder of features, None when it has none; raises StoreError when it is damaged."""
    path = location(folder) / MANIFEST
    file = manifest_file(path)
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise file.unreadable(error) from error
    settings = read_json(file).get("settings")
    if not isinstance(settings, dict):
        raise file.wrong("it has no object 'settings'")
    return Manifest(settings=settings)


def claim_folder(folder: str | Location, manifest: Manifest, *, version: str) -> None:
    """Make `folder` one that holds features of `manifest`, writing manifest.json where there is none.

    Raises StoreError when it holds features of other settings, naming each that differs. Hold `FolderLocks.updating`.
    """
    found = read_manifest(folder)
    if videos_in_shards(location(folder)) is not None:
        raise StoreError(
            f"{folder} holds Parquet shards, to which nothing can be added: choose another `out=`, or make a folder of "
            f"features of it with `c3dvideo convert {folder} --to npz --out FEATURES`"
        )
    if found is None:
        text = {
            "format": FORMAT,
            "version": version,
            "fingerprint": manifest.fingerprint,
            "settings": manifest.settings,
        }
        _refuse_foreign_files(folder, manifest)
        _write_manifest(location(folder) / MANIFEST, json.dumps(text, indent=2, sort_keys=True).encode() + b"\n")
        found = read_manifest(folder) or manifest  # in object storage, another run may have been first
    if found.fingerprint != manifest.fingerprint:
        raise _foreign(folder, found, manifest)


def _write_manifest(path: Location, content: bytes) -> None:
    if isinstance(path, ObjectPath):
        with writing(path), suppress(FileExistsError):
            path.put(content, only_if_new=True)
        return
    with atomic_file(path) as file:
        file.write(content)


def _refuse_foreign_files(folder: str | Location, manifest: Manifest) -> None:
    """Raise StoreError when a folder without a manifest has a feature file of other settings."""
    if not location(folder).is_dir():
        return
    for _, path in list_features(folder):
        try:
            settings = read_metadata(path).get("settings")
        except StoreError:
            continue
        if isinstance(settings, dict) and settings != manifest.settings:
            raise _foreign(path, Manifest(settings=settings), manifest)


def _foreign(where: str | Location, there: Manifest, here: Manifest) -> StoreError:
    differences = "; ".join(there.differences(here))
    return StoreError(
        f"{where} holds features of other settings: {differences}. A folder never mixes two: choose another `out=`, "
        "or use the settings of that folder"
    )
