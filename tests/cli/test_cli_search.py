"""`c3dvideo index`, `search` and `duplicates` from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D, extract

Run = Callable[..., tuple[int, str, str]]


def clips(seed: int, n_clips: int = 3) -> Any:
    generator = np.random.default_rng(seed)
    return 3 + generator.random(8) + 0.02 * generator.random((n_clips, 8))


@pytest.fixture
def features(feature_folder: Callable[..., Path], tmp_path: Path) -> Path:
    videos = {f"sub/{name}.mp4": clips(seed) for seed, name in enumerate("abcdef")}
    return feature_folder(tmp_path / "features", videos | {"a@3.mp4": clips(0), "copy.mp4": clips(1)})


def test_search_prints_matches_as_text_and_as_json(run: Run, features: Path) -> None:
    code, out, _ = run("index", features, "--db", "my.db")
    assert code == 0
    assert out.startswith("my.db: 8 videos, 24 clips; 8 added, 0 changed, 0 removed, 0 unchanged, 0 failed")
    code, out, _ = run("search", "sub/b.mp4@0.7", "--db", "my.db", "--top", 5, "--json")
    assert code == 0
    document = json.loads(out)
    assert document.keys() == {"results"}
    assert len(document["results"]) == 5
    first = document["results"][0]
    assert first.keys() == {"video", "start_seconds", "end_seconds", "score", "percentile"}
    assert first["video"] == "copy.mp4" and first["start_seconds"] == pytest.approx(0.64)
    code, out, _ = run("search", "a@3.mp4", "--db", "my.db", "--kind", "videos", "--top", 1)
    header, line = out.splitlines()
    assert header.split() == ["seconds", "score", "percentile", "video"]
    assert line.split()[0] == "0.00-1.92" and line.endswith("sub/a.mp4")
    code, out, _ = run("search", "--like", "sub/c.mp4", "--unlike", "sub/d.mp4", "--db", "my.db", "--json")
    assert code == 0
    assert not {"sub/c.mp4", "sub/d.mp4"} & {match["video"] for match in json.loads(out)["results"]}
    code, out, _ = run("search", "sub/c.mp4", "--db", "my.db", "--same-video", "--top", 1)
    assert out.splitlines()[1].endswith("sub/c.mp4")


def test_duplicates_prints_pairs(run: Run, features: Path) -> None:
    run("index", features, "--db", "my.db")
    code, out, _ = run("duplicates", "--db", "my.db", "--json")
    assert code == 0
    pairs = json.loads(out)["pairs"]
    assert [(pair["a"], pair["b"], pair["kind"]) for pair in pairs] == [
        ("a@3.mp4", "sub/a.mp4", "exact"),
        ("copy.mp4", "sub/b.mp4", "exact"),
    ]
    assert pairs[0].keys() == {"a", "b", "kind", "score", "a_seconds", "b_seconds"}
    assert pairs[0]["a_seconds"] == pytest.approx([0, 1.92])
    code, out, _ = run("duplicates", "--db", "my.db")
    assert code == 0
    assert "2 pairs" in out and "sub/b.mp4" in out
    assert run("duplicates", "--db", "my.db", "--threshold", 3)[0] == 2


def test_failures_and_wrong_words(run: Run, features: Path, tmp_path: Path) -> None:
    (features / "broken.mp4.npz").write_bytes(b"")
    code, out, err = run("index", features, "--db", "my.db", "--json")
    assert code == 3
    assert json.loads(out)["failures"][0]["name"] == "broken.mp4"
    assert err.splitlines()[-1] == "1 feature files are not in the index"
    code, _, err = run("search", "sub/x.mp4@3", "--db", "my.db")
    assert code == 2
    assert "did you mean 'sub/" in err and "there is no file 'sub/x.mp4'" in err
    code, _, err = run("search", "--db", "my.db")
    assert code == 2
    assert "`--like`" in err
    code, _, err = run("search", "sub/a.mp4", "--db", "nowhere")
    assert code == 1
    assert "make one with `c3dvideo index FEATURES --db nowhere`" in err
    assert run("index", "nothing", "--db", "my.db")[0] == 2
    (tmp_path / "file.mp4").write_text("no video")
    code, _, err = run("search", "file.mp4", "--db", "my.db")
    assert code == 2
    assert "does not record how its features were computed" in err
    code, _, err = run("index", features, "--db", "pca.db", "--pca", 3)
    assert code == 3
    assert "recall@10" in run("index", features, "--db", "pca.db")[1]


def test_a_video_file_is_a_query(
    run: Run, tmp_path: Path, tiny_network: C3D, narrow_network: C3D, moving_square: Callable[..., Path]
) -> None:
    for seed in range(4):
        moving_square(tmp_path / f"videos/{seed}@1.mp4", seed=seed, n_frames=24)
    moving_square(tmp_path / "other.mp4", seed=9, n_frames=24)
    tiny_network.save_pretrained(tmp_path / "tiny")
    narrow_network.save_pretrained(tmp_path / "narrow")
    from c3dvideo.video.clips import ClipPlan

    extract(["videos"], "features", weights="tiny", plan=ClipPlan(clip_length=8, stride_frames=8))
    assert run("index", "features", "--db", "my.db")[0] == 0
    # A file of known content is not computed: its weights need not be named.
    code, out, err = run("search", "videos/2@1.mp4@0.4", "--db", "my.db", "--top", 1, "--json")
    assert code == 0
    assert json.loads(out)["results"][0]["video"] == "2@1.mp4"
    assert json.loads(out)["results"][0]["start_seconds"] == pytest.approx(8 / 25)
    assert err == "videos/2@1.mp4 is '2@1.mp4' in the index\n"
    computed = run("search", "videos/2@1.mp4@0.4", "--db", "my.db", "--top", 1, "--json", "--weights", "tiny")
    assert json.loads(computed[1])["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert run("search", "other.mp4", "--db", "my.db", "--weights", "tiny", "--kind", "videos")[0] == 0
    code, _, err = run("search", "other.mp4", "--db", "my.db", "--weights", "narrow")
    assert code == 2
    assert "weights or settings" in err or "frames" in err
    code, _, err = run("search", "other.mp4", "--db", "my.db")
    assert code == 2
    (tmp_path / "broken.mp4").write_text("no video")
    assert run("search", "broken.mp4", "--db", "my.db", "--weights", "tiny")[0] == 1
    assert run("search", "other.mp4@99", "--db", "my.db", "--weights", "tiny")[0] == 2
