"""Extract: what is promised of a run over many videos, whatever happens to it on the way."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D, __version__
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.extract import ExtractSummary, extract
from c3dvideo.features.failures import read_failures
from c3dvideo.features.prepare_network import prepare_network
from c3dvideo.features.store import descriptor, list_features, read_features
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.content import content_sha256
from c3dvideo.video.preprocess import prepare_frame
from c3dvideo.video.reader import read_clips

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=8)

SLOW = """
import os, signal, sys, time
from c3dvideo.features import decoders
from c3dvideo import cli

real = decoders.Decoders.messages
def slow(self):
    for message in real(self):
        time.sleep(0.03)
        yield message
decoders.Decoders.messages = slow
"""
MEET = """
from pathlib import Path
from c3dvideo.features import folder_run

def meet(folder):
    Path(folder, f"here-{os.getpid()}").touch()
    while len(list(Path(folder).glob("here-*"))) < 2:
        time.sleep(0.01)
claimed = folder_run.FolderRun.claimed
def first_meet(self, sources):
    for number, source in enumerate(claimed(self, sources)):
        meet(MEETING) if number == 0 else time.sleep(0.1)
        yield source
folder_run.FolderRun.claimed = first_meet
"""
DIE_IN_FSYNC = """
calls = 0
fsync = os.fsync
def die(handle):
    global calls
    calls += 1
    if calls == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = die
"""


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    """Six videos of 8 to 34 frames, two of them of one stem in two folders."""
    folder = tmp_path / "videos"
    for index, name in enumerate(["a.mp4", "b.mp4", "sub/a.mp4", "sub/deep/c.mp4", "d.avi", "e.mkv"]):
        moving_square(folder / name, n_frames=8 + 5 * index, height=48, width=64, seed=index)
    return folder


@pytest.fixture
def weights(tmp_path: Path, tiny_network: C3D) -> Path:
    save_folder(tiny_network, tmp_path / "weights")
    return tmp_path / "weights"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(weights: Path, videos: Path, out: Path, *patches: str) -> subprocess.Popen[str]:
    code = "\n".join([*patches, "from c3dvideo import cli", "cli.main()"])
    arguments = ["extract", str(videos), "--out", str(out), "--weights", str(weights), "--clip-length", "8"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--stride-frames", "4", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_command(weights: Path, videos: Path, out: Path) -> ExtractSummary:
    """The same run as `command`, in this process."""
    return extract([videos], out, weights=weights, plan=ClipPlan(clip_length=8, stride_frames=4))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_video_gets_its_file(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    out = tmp_path / "out"
    notes: list[str] = []
    summary = extract([videos], out, weights=tiny_network, layers=["fc6", "conv5b", "prob"], note=notes.append)
    assert [name for name, _ in list_features(out)] == [
        "a.mp4", "b.mp4", "d.avi", "e.mkv", "sub/a.mp4", "sub/deep/c.mp4"
    ]  # fmt: skip
    assert (summary.n_videos, summary.n_done, summary.n_skipped, summary.n_failed) == (6, 6, 0, 0)
    assert summary.n_clips == 1 + 1 + 1 + 1 + 2 + 2
    assert not (out / "failures.jsonl").exists()
    assert len(notes) == 1
    assert "conv5b, fc6, prob of a network in memory" in notes[0]
    assert "profile tiny, engine winograd in fp32 on cpu" in notes[0]
    features = read_features(out / "e.mkv.npz")
    assert {name: array.shape for name, array in features.layers.items()} == {
        "conv5b": (2, 8, 1, 2, 2), "fc6": (2, 16), "prob": (2, 5)
    }  # fmt: skip
    assert features.start_frame.tolist() == [0, 16]
    np.testing.assert_allclose(features.start_seconds, [0, 0.64], atol=1e-9)
    assert features.layers["prob"].sum() == pytest.approx(2)
    metadata = features.metadata
    assert (metadata["name"], metadata["source"]) == ("e.mkv", str(videos / "e.mkv"))
    assert (metadata["fps"], metadata["n_frames"], metadata["n_clips"]) == ("25", 33, 2)
    assert (metadata["frames_folder"], metadata["version"]) == (False, __version__)
    assert metadata["content_sha256"] == content_sha256(str(videos / "e.mkv"))
    assert (
        metadata["fingerprint"] == summary.fingerprint == json.loads((out / "manifest.json").read_text())["fingerprint"]
    )
    assert metadata["settings"]["plan"]["stride_frames"] == 16
    assert metadata["engine"]["engine"] == "winograd"


def test_stored_numbers_are_those_of_the_network(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    import torch

    extract([videos / "e.mkv"], tmp_path / "out", weights=tiny_network, layers=["fc6"], plan=PLAN)
    stored = read_features(tmp_path / "out" / "e.mkv.npz").layers["fc6"]
    profile = tiny_network.profile
    clips = list(read_clips(videos / "e.mkv", plan=PLAN, profile=profile, views=profile.views("centre")))
    pixels = torch.from_numpy(np.concatenate([clip.pixels for clip in clips])).float() - 100
    with torch.inference_mode():
        expected = tiny_network.activations(pixels, ["fc6"])["fc6"].numpy()
    assert stored.shape == (4, 16)
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-4)


def test_frame_folders_lists_and_the_default_plan(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    from PIL import Image

    frames = videos / "frames"
    frames.mkdir()
    for index in range(12):
        Image.fromarray(np.full((40, 50, 3), 20 * index, np.uint8)).save(frames / f"{index + 1:06d}.jpg")
    (tmp_path / "list.csv").write_text("path\nvideos/frames\nvideos/sub/a.mp4\n")
    extract([tmp_path / "list.csv"], tmp_path / "out", weights=tiny_network)
    names = [name for name, _ in list_features(tmp_path / "out")]
    assert names == ["videos/frames", "videos/sub/a.mp4"]
    features = read_features(tmp_path / "out" / "videos" / "frames.npz")
    assert features.metadata["frames_folder"]
    assert features.metadata["fps"] is None
    assert features.metadata["n_frames"] == 12
    assert features.start_frame.tolist() == [0]
    assert np.isnan(features.start_seconds).all()


def test_pooling_gives_the_descriptor(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    inputs, layers = [videos / "e.mkv"], ["fc6", "pool5"]
    extract(inputs, tmp_path / "all", weights=tiny_network, layers=layers, plan=PLAN, crops="ten")
    summary = extract(
        inputs, tmp_path / "one", weights=tiny_network, layers=layers, plan=PLAN, crops="ten", pool="mean"
    )
    clips = read_features(tmp_path / "all" / "e.mkv.npz").layers
    pooled = read_features(tmp_path / "one" / "e.mkv.npz")
    assert clips["fc6"].shape == (4, 10, 16)
    assert pooled.layers["fc6"].shape == (1, 16)
    assert pooled.layers["pool5"].shape == (1, *clips["pool5"].shape[2:])
    np.testing.assert_array_equal(pooled.layers["fc6"][0], descriptor(clips["fc6"]))
    assert np.linalg.norm(pooled.layers["pool5"]) == pytest.approx(1)
    assert (pooled.start_frame.tolist(), pooled.metadata["n_clips"], summary.n_clips) == ([0], 4, 4)


def test_a_second_run_does_only_what_is_missing_or_changed(
    videos: Path, tmp_path: Path, tiny_network: C3D, moving_square: Write
) -> None:
    out = tmp_path / "out"

    def run() -> tuple[int, int, int]:
        summary = extract([videos], out, weights=tiny_network)
        return summary.n_done, summary.n_skipped, summary.n_failed

    assert run() == (6, 0, 0)
    before = tree(out)
    assert run() == (0, 6, 0)
    assert tree(out) == before
    (out / "a.mp4.npz").unlink()
    (out / "b.mp4.npz").write_bytes((out / "b.mp4.npz").read_bytes()[:-20])
    os.utime(videos / "d.avi")
    assert run() == (2, 4, 0)
    assert tree(out) == before
    moving_square(videos / "a.mp4", n_frames=9, height=48, width=64, seed=77)
    assert run() == (1, 5, 0)
    assert tree(out)["a.mp4.npz"] != before["a.mp4.npz"]
    assert {name: data for name, data in tree(out).items() if name != "a.mp4.npz"} == {
        name: data for name, data in before.items() if name != "a.mp4.npz"
    }


def test_a_folder_of_other_settings_is_refused_and_the_difference_named(
    videos: Path, tmp_path: Path, tiny_network: C3D
) -> None:
    out = tmp_path / "out"
    extract([videos], out, weights=tiny_network)
    before = tree(out)
    with pytest.raises(StoreError, match=r"plan\.stride_frames is 16 there and 8 here"):
        extract([videos], out, weights=tiny_network, plan=PLAN)
    with pytest.raises(StoreError, match=r"layers is \['fc6'\] there and \['fc6', 'fc7'\] here"):
        extract([videos], out, weights=tiny_network, layers=["fc7", "fc6"])
    with pytest.raises(StoreError, match=r"profile\.channel_order is 'bgr' there and 'rgb' here"):
        extract([videos], out, weights=tiny_network, profile_changes={"channel_order": "rgb"})
    with pytest.raises(StoreError, match=r"pool is None there and 'mean' here"):
        extract([videos], out, weights=tiny_network, pool="mean")
    tiny_network.initialise("xavier")
    with pytest.raises(StoreError, match=r"weights is '[0-9a-f]{64}' there and '[0-9a-f]{64}' here"):
        extract([videos], out, weights=tiny_network)
    assert tree(out) == before


def test_bad_videos_are_recorded_and_the_others_done(
    videos: Path, tmp_path: Path, tiny_network: C3D, moving_square: Write
) -> None:
    out = tmp_path / "out"
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("not a video")
    moving_square(videos / "short.mp4", n_frames=7)
    cut = (videos / "e.mkv").read_bytes()
    (videos / "cut.mkv").write_bytes(cut[: len(cut) // 2])
    summary = extract([videos], out, weights=tiny_network)
    assert (summary.n_done, summary.n_failed) == (6, 4)
    records = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(record["name"], record["stage"]) for record in records] == [
        ("cut.mkv", "decode"), ("empty.mp4", "decode"), ("short.mp4", "clips"), ("text.mp4", "decode")
    ]  # fmt: skip
    assert all(record["path"] == str(videos / record["name"]) for record in records)
    messages = {record["name"]: record["message"] for record in records}
    assert "empty (0 bytes)" in messages["empty.mp4"]
    assert "has 7 frames and one clip needs 8" in messages["short.mp4"]
    assert [failure.name for failure in summary.failures] == sorted(messages)
    assert len(list_features(out)) == 6

    again = extract([videos], out, weights=tiny_network)
    assert (again.n_done, again.n_skipped, again.n_failed) == (0, 6, 4)
    assert [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()] == records

    shutil.copy(videos / "a.mp4", videos / "text.mp4")
    repaired = extract([videos / "text.mp4", videos / "short.mp4"], out, weights=tiny_network)
    assert (repaired.n_done, repaired.n_failed) == (1, 1)
    assert [failure.name for failure in read_failures(out)] == ["cut.mkv", "empty.mp4", "short.mp4"]

    moving_square(videos / "empty.mp4", n_frames=8)
    moving_square(videos / "short.mp4", n_frames=8)
    shutil.copy(videos / "e.mkv", videos / "cut.mkv")
    assert extract([videos], out, weights=tiny_network).n_failed == 0
    assert not (out / "failures.jsonl").exists()


def test_a_video_that_breaks_loses_its_stale_features(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    out = tmp_path / "out"
    extract([videos], out, weights=tiny_network)
    (videos / "a.mp4").write_bytes(b"broken")
    assert extract([videos], out, weights=tiny_network).n_failed == 1
    assert not (out / "a.mp4.npz").exists()


def test_an_unreadable_file_keeps_its_features(
    videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    extract([videos], out, weights=tiny_network)
    real_open = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "b.mp4":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    (failure,) = extract([videos], out, weights=tiny_network, workers=0).failures
    assert (failure.name, failure.stage) == ("b.mp4", "read")
    assert failure.message.endswith("b.mp4': cannot be read: permission is denied")
    assert (out / "b.mp4.npz").exists()


@pytest.mark.parametrize(
    "name", ["with space.mp4", "-dash.mp4", "--out.mp4", "ünï 視頻.mp4", "line\nbreak.mp4", "a.mp4.npz.mp4"]
)
def test_names_of_every_kind(name: str, tmp_path: Path, tiny_network: C3D, moving_square: Write) -> None:
    source = moving_square(tmp_path / "plain.mp4", n_frames=8, height=48, width=64)
    (tmp_path / "in").mkdir()
    source.rename(tmp_path / "in" / name)
    summary = extract([tmp_path / "in"], tmp_path / "out", weights=tiny_network)
    assert (summary.n_done, summary.n_failed) == (1, 0)
    ((found, path),) = list_features(tmp_path / "out")
    assert (found, path.name) == (name, name + ".npz")
    assert read_features(path).name == name
    assert extract([tmp_path / "in"], tmp_path / "out", weights=tiny_network).n_skipped == 1


def test_a_name_that_is_no_text(tmp_path: Path, tiny_network: C3D, moving_square: Write) -> None:
    source = moving_square(tmp_path / "plain.mp4", n_frames=8, height=48, width=64)
    name = os.fsdecode(b"bad\xff.mp4")
    (tmp_path / "in").mkdir()
    source.rename(tmp_path / "in" / name)
    summary = extract([tmp_path / "in"], tmp_path / "out", weights=tiny_network)
    assert summary.n_done + summary.n_failed == 1
    json.dumps(summary.to_dict())
    if summary.n_done:
        assert read_features(tmp_path / "out" / (name + ".npz")).name == name


def test_a_name_too_long_to_store_fails_alone(tmp_path: Path, tiny_network: C3D, moving_square: Write) -> None:
    moving_square(tmp_path / "in" / "a.mp4", n_frames=8, height=48, width=64)
    shutil.copy(tmp_path / "in" / "a.mp4", tmp_path / "in" / ("x" * 248 + ".mp4"))
    summary = extract([tmp_path / "in"], tmp_path / "out", weights=tiny_network)
    assert summary.n_done == 1
    (failure,) = summary.failures
    assert failure.stage == "write"
    assert "a name in its path is too long" in failure.message


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real, calls = np.lib.format.write_array, 0

    def fill_up(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", fill_up)
        with pytest.raises(StoreError, match="could not be written: the disk is full"):
            extract([videos], out, weights=tiny_network)
    assert len(list_features(out)) == 2
    assert not list(out.rglob(".*"))
    assert extract([videos], out, weights=tiny_network).n_done == 4
    extract([videos], tmp_path / "whole", weights=tiny_network)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 kB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(videos: Path, tiny_network: C3D, small_disk: Path) -> None:
    with pytest.raises(StoreError, match="the disk is full"):
        extract([videos], small_disk / "out", weights=tiny_network, layers=["conv1a", "fc6"], plan=PLAN)
    for _, path in list_features(small_disk / "out"):
        read_features(path)
    assert not list(small_disk.rglob("*.tmp"))


def test_ctrl_c_then_resume_equals_an_uninterrupted_run(videos: Path, tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    process = command(weights, videos, out, SLOW)
    wait_for(lambda: len(list(out.rglob("*.npz"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith("c3dvideo: stopped; what was finished is kept\n")
    assert "Traceback" not in stderr
    n_kept = len(list_features(out))
    assert 2 <= n_kept < 6
    assert not list(out.rglob(".*"))
    assert as_command(weights, videos, out).n_skipped == n_kept
    as_command(weights, videos, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_kill_9_in_the_middle_of_a_write_then_resume(videos: Path, tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    killed = command(weights, videos, out, SLOW, DIE_IN_FSYNC)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert list(out.rglob("*.tmp")), "the process was to die while a file was half-written"
    n_kept = len(list_features(out))
    assert 1 <= n_kept < 6
    assert as_command(weights, videos, out).n_skipped == n_kept
    as_command(weights, videos, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_two_runs_share_one_folder(videos: Path, tmp_path: Path, weights: Path) -> None:
    (videos / "bad.mp4").write_text("not a video")
    out = tmp_path / "out"
    (tmp_path / "meeting").mkdir()
    meeting = f"MEETING = {str(tmp_path / 'meeting')!r}"
    runs = [command(weights, videos, out, SLOW, meeting, MEET) for _ in range(2)]
    summaries = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
    assert [run.returncode for run in runs] == [3, 3]
    assert sum(summary["n_done"] for summary in summaries) == 6, "each video is done by one of them"
    assert all(summary["n_done"] + summary["n_skipped"] == 6 for summary in summaries)
    assert all(summary["n_done"] for summary in summaries), "both began with a video of their own"
    assert [failure.name for failure in read_failures(out)] == ["bad.mp4"]
    as_command(weights, videos, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_a_run_takes_over_what_another_one_dies_on(videos: Path, tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    other = command(
        weights,
        videos,
        out,
        SLOW,
        "from c3dvideo.features import pipeline\npipeline.Writer.put = lambda *_: time.sleep(60)",
    )
    wait_for(lambda: any(len(path.name) == 32 for path in out.glob(".locks/*")), other)  # a claim
    os.kill(other.pid, signal.SIGSTOP)
    killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(3); os.kill({other.pid}, 9)"])
    assert as_command(weights, videos, out).n_done == 6
    killer.wait()
    other.communicate(timeout=10)


def test_colliding_names_are_refused_before_anything_is_done(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    with pytest.raises(UsageError, match=r"would both be stored as 'a\.mp4'"):
        extract([videos / "a.mp4", videos / "sub" / "a.mp4"], tmp_path / "out", weights=tiny_network)
    assert not (tmp_path / "out").exists()


def test_settings_that_do_not_fit_the_network(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    with pytest.raises(UsageError, match="clips have 16 frames, but fc6 of this network needs 8"):
        extract([videos], tmp_path / "out", weights=tiny_network, plan=ClipPlan())
    with pytest.raises(UsageError, match="crops 112 pixels, but fc6 of this network needs 32"):
        extract([videos], tmp_path / "out", weights=tiny_network, profile="caffe")
    with pytest.raises(UsageError, match="unknown profile 'cafe'; there are caffe,"):
        extract([videos], tmp_path / "out", weights=tiny_network, profile="cafe")
    with pytest.raises(UsageError, match="unknown layer: fc9"):
        extract([videos], tmp_path / "out", weights=tiny_network, layers=["fc9"])
    assert not (tmp_path / "out").exists()


def test_another_profile_replaces_that_of_the_weights(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    other = replace(tiny_network.profile, name="other", mean=(1.0, 2.0, 3.0), channel_order="rgb")
    summary = extract([videos / "a.mp4"], tmp_path / "out", weights=tiny_network, profile=other)
    assert summary.settings["profile"]["mean"] == [1.0, 2.0, 3.0]
    assert summary.settings["mean_sha256"] is None
    assert tiny_network.profile.name == "tiny", "the caller's network is left alone"
    changes = {"mean": (1.0, 2.0, 3.0), "channel_order": "rgb"}
    changed = extract([videos / "a.mp4"], tmp_path / "changed", weights=tiny_network, profile_changes=changes)
    assert changed.settings["profile"]["name"] == "tiny+channel_order+mean"
    one, two = (read_features(tmp_path / each / "a.mp4.npz").layers["fc6"] for each in ("out", "changed"))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(UsageError, match="pool5 rule 'symmetric' leaves 0 cells per channel"):
        extract([videos / "a.mp4"], tmp_path / "no", weights=tiny_network, profile_changes={"pool5": "symmetric"})


def test_the_pool5_rule_comes_with_the_profile(narrow_network: C3D) -> None:
    changed = prepare_network(narrow_network, "jfzhang")
    assert (changed.architecture["pool5"], narrow_network.architecture["pool5"]) == ("symmetric", "ceil")
    assert prepare_network(narrow_network) is narrow_network


def test_each_frame_is_decoded_once_though_clips_overlap(
    videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 0

    def count(*arguments: Any) -> Any:
        nonlocal frames
        frames += 1
        return prepare_frame(*arguments)

    monkeypatch.setattr("c3dvideo.video.reader.prepare_frame", count)
    plan = ClipPlan(clip_length=8, stride_frames=1)
    assert extract([videos / "e.mkv"], tmp_path / "out", weights=tiny_network, plan=plan, workers=0).n_clips == 26
    assert frames == 33


def test_content_decides_the_hash_of_a_frame_folder(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            (tmp_path / folder / f"{index}.jpg").write_bytes(bytes([index]))
    one = content_sha256(str(tmp_path / "one"))
    assert one == content_sha256(str(tmp_path / "two"))
    (tmp_path / "two" / "2.jpg").rename(tmp_path / "two" / "3.jpg")
    assert one != content_sha256(str(tmp_path / "two"))
    assert content_sha256("rtsp://camera/1") is None
