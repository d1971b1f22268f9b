"""The line about the default weights: for features that they made, and for no others."""

from pathlib import Path

import numpy as np

from c3dvideo import C3D
from c3dvideo.features.default_weights import NOTE, default_fingerprint, note_on_default_weights, note_on_features
from c3dvideo.features.store import VideoFeatures, write_features
from c3dvideo.network.folder import EMBEDDED, fingerprint


def write(path: Path, settings: object) -> None:
    features = VideoFeatures(
        name=path.stem,
        layers={"fc6": np.ones((1, 4), np.float32)},
        start_frame=np.zeros(1, np.int64),
        start_seconds=np.zeros(1),
        metadata={"settings": settings},
    )
    write_features(path, features)


def test_the_fingerprint_is_that_of_the_loaded_network() -> None:
    assert default_fingerprint() == fingerprint(C3D.from_pretrained(EMBEDDED))


def test_only_features_of_the_default_weights_get_the_line(tmp_path: Path, tiny_network: C3D) -> None:
    assert note_on_default_weights({"weights": default_fingerprint()}) == NOTE
    assert note_on_default_weights({"weights": fingerprint(tiny_network)}) is None
    assert note_on_default_weights({}) is None
    (tmp_path / "a.npz").write_bytes(b"damaged")
    assert note_on_features(tmp_path) is None
    write(tmp_path / "b.npz", {"weights": default_fingerprint()})
    assert note_on_features(tmp_path) == NOTE
    write(tmp_path / "a.npz", ["no settings"])
    assert note_on_features(tmp_path) is None
