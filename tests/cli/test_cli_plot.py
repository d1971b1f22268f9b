"""`c3dvideo plot`: the verbs write PNG and SVG, and refuse what they cannot draw with exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[..., tuple[int, str, str]]


def test_every_kind_is_drawn(run: Run, tmp_path: Path, feature_folder: Callable[..., Path]) -> None:
    generator = np.random.default_rng(0)
    videos = {f"{label}/{index}.mp4": generator.random((3, 6)) for label in ("walk", "run") for index in range(4)}
    feature_folder(tmp_path / "features", videos)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/test_confusion.csv").write_text("true,a,b\na,3,1\nb,0,2\n")
    (tmp_path / "run/log.csv").write_text("epoch,train_loss,val_loss,val_accuracy\n0,1.2,1.1,0.3\n1,1.0,0.9,0.5\n")
    (tmp_path / "compactness.csv").write_text("dimensions,accuracy\n10,0.5\n50,0.75\n")
    clips = [{"start_frame": 0, "end_frame": 16, "start_seconds": 0, "end_seconds": 0.64, "label": "a", "score": 0.5}]
    (tmp_path / "p.json").write_text(json.dumps({"predictions": [{"name": "v.mp4", "timeline": clips}]}))
    commands = {
        "map": ["features", "--labels-from-folders", "--method", "pca", "--title", "four and four"],
        "confusion": ["run"],
        "compactness": ["compactness.csv"],
        "training": ["run"],
        "similarity": ["features/walk/0.mp4.npz", "features/run/0.mp4.npz"],
        "timeline": ["p.json"],
    }
    for kind, words in commands.items():
        for suffix in ("png", "svg"):
            code, out, err = run("plot", kind, *words, "--out", f"{kind}.{suffix}", "--json")
            assert (code, json.loads(out)["picture"]) == (0, f"{kind}.{suffix}"), err
            assert (tmp_path / f"{kind}.{suffix}").stat().st_size > 1000
    assert run("plot", "map", "map.csv", "--out", "again.png")[0] == 0


def test_what_cannot_be_drawn_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("nothing\n")
    for words in (["confusion", "a.csv"], ["training", "a.csv"], ["map", "missing.csv"], ["timeline", "a.csv"]):
        code, out, err = run("plot", *words, "--out", "x.png")
        assert (code, out) == (2, "")
        assert err.startswith("c3dvideo: ")
        assert err.count("\n") == 1
    code, _, err = run("plot", "map", "a.csv", "--out", "plots/x.gif")
    assert (code, err) == (2, "c3dvideo: plots/x.gif: the suffix is '.gif'; expected .png or .svg\n")
    assert not (tmp_path / "plots").exists()
    code, _, err = run("plot", "confusion", "a.csv", "--out", "x.gif")
    assert code == 2
