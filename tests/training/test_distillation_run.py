"""A whole distillation run, tiny: what it leaves, that it continues to the same weights, and the command."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from c3dvideo import C3D
from c3dvideo.cli import distil_command, main
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.network.folder import fingerprint, load_folder, save_folder
from c3dvideo.training.distillation import distillation_run
from c3dvideo.training.distillation.distillation_inputs import DistilInputs, TeacherChoice, find_inputs
from c3dvideo.training.distillation.distillation_media import load_media
from c3dvideo.training.distillation.distillation_run import DistilResult, distil
from c3dvideo.training.distillation.distillation_settings import DistilSettings
from c3dvideo.training.distillation.student_batches import StudentBatches
from c3dvideo.training.distillation.student_start import start_student
from c3dvideo.training.distillation.student_steps import StudentSteps
from c3dvideo.training.folding import folded
from c3dvideo.training.pretraining.pretraining_input import PROFILE
from c3dvideo.weights.check_weights import check_folder

TINY = DistilSettings(
    n_steps=4,
    batch_size=8,
    size=32,
    generated=0.5,
    clips_per_video=2,
    warmup_steps=2,
    settling_clips=16,
    fc_clips=2,
    everyday_clips=2,
    precision="fp32",
)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A weights folder of a very narrow network with the embedded weights' input."""
    network = C3D(num_classes=3, stages=((4,), (4,), (4,), (4,), (4,)), fc_width=8, filler="xavier")
    network.profile = PROFILE
    save_folder(network, tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def data(tmp_path: Path, moving_square: Callable[..., Path]) -> Path:
    """A folder with four pictures, one that is none, a video, and vectors of all of them."""
    (tmp_path / "data/pictures").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(4):
        coarse = random.integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 60)).save(tmp_path / f"data/pictures/{number}.png")
    (tmp_path / "data/pictures/bad.jpg").write_bytes(b"no picture")
    moving_square(tmp_path / "data/videos/a.mp4", n_frames=40)
    names = ["0.png", "1.png", "2.png", "3.png", "a.mp4"]
    np.savez(tmp_path / "data/vectors.npz", **{name: random.normal(size=6).astype(np.float32) for name in names})
    return tmp_path / "data"


def inputs_of(data: Path) -> DistilInputs:
    return find_inputs(images=[data / "pictures"], videos=[data / "videos"], source_note="generated here, CC0")


def run(out: Path, data: Path, start: Path, settings: DistilSettings = TINY, **options: Any) -> DistilResult:
    return distil(
        out,
        inputs=inputs_of(data),
        teacher=TeacherChoice(str(data / "vectors.npz")),
        init=str(start),
        settings=settings,
        device="cpu",
        workers=0,
        **options,
    )


def test_a_stopped_run_continues_to_the_same_weights(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation_run, "_CHECKPOINT_EVERY", 1)
    # The head is fitted after the part that resumes.
    monkeypatch.setattr(distillation_run, "fit_head", lambda *args, **options: None)
    whole = run(tmp_path / "whole", data, start).network

    step = StudentSteps.step
    calls: list[int] = []

    def stop_in_the_third(self: StudentSteps, number: int, generated: Any = None) -> Any:
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, number, generated)

    monkeypatch.setattr(StudentSteps, "step", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", data, start)
    with pytest.raises(UsageError, match="holds a run; continue it with `resume=True`"):
        run(tmp_path / "stopped", data, start)
    resumed = run(tmp_path / "stopped", data, start, resume=True).network
    assert calls == [0, 1, 2, 2, 3]
    assert whole.descriptor_mean is not None and resumed.descriptor_mean is not None
    assert np.array_equal(whole.descriptor_mean, resumed.descriptor_mean)
    for name, array in whole.state_dict().items():
        assert array.equal(resumed.state_dict()[name]), name
    lines = (tmp_path / "stopped/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert "moves conv3a" in json.loads(lines[0])["generated"], "generated clips have their own losses"
    changed = dataclasses.replace(TINY, seed=1)
    with pytest.raises(UsageError, match="other seed; choose another `out=`"):
        run(tmp_path / "stopped", data, start, settings=changed, resume=True)


def test_a_run_leaves_weights_with_a_mean_sources_and_a_card(data: Path, start: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "run", data, start)
    stored = load_folder(C3D, result.weights)
    assert [Path(path).name for path in result.unreadable] == ["bad.jpg"]
    assert stored.descriptor_mean is not None and stored.descriptor_mean.shape == (8,)
    assert 0 < np.linalg.norm(stored.descriptor_mean) <= 1, "a mean of vectors of length one"
    assert len(stored.classes) == 8 and stored.profile == PROFILE
    before = load_folder(C3D, start).state_dict()
    assert not stored.state_dict()["conv3a.weight"].allclose(before["conv3a.weight"], atol=1e-4), "it has learned"
    provenance = stored.provenance
    assert provenance["sources"][0] == {
        "folder": "pictures",
        "kind": "pictures",
        "files": 5,
        "licence": "generated here, CC0",
    }
    assert provenance["recipe"]["targets"] == "cached" and provenance["clips_seen"] == 32
    page = (result.weights / "README.md").read_text()
    assert "| pictures | pictures | 5 | generated here, CC0 |" in page and "vectors.npz" in page
    assert check_folder(result.weights).faults == ()


def test_the_descriptor_mean_is_optional_and_outside_the_fingerprint(start: Path, tmp_path: Path) -> None:
    network = load_folder(C3D, start)
    assert network.descriptor_mean is None
    before = fingerprint(network)
    network.descriptor_mean = np.linspace(0, 1, 8, dtype=np.float32)
    save_folder(network, tmp_path / "with")
    again = load_folder(C3D, tmp_path / "with")
    assert np.array_equal(again.descriptor_mean, network.descriptor_mean)  # type: ignore[arg-type]
    assert fingerprint(again) == before
    network.descriptor_mean = np.zeros(3, np.float32)
    save_folder(network, tmp_path / "wrong")
    with pytest.raises(WeightsError, match=r"descriptor mean is \(3,\), expected \(8,\)"):
        load_folder(C3D, tmp_path / "wrong")


def test_starting_weights_keep_what_they_compute(data: Path, start: Path, tmp_path: Path) -> None:
    """Batch normalisation is put in so that it changes nothing, and folded away at the end."""
    media = load_media(inputs_of(data), tmp_path / "clips", side=64, clips_per_video=2)
    network = folded(start_student(str(start), StudentBatches(media, TINY, device=torch.device("cpu"))))
    before = load_folder(C3D, start)
    clips = 100 * torch.randn(2, 3, 16, 112, 112)
    with torch.no_grad():
        one, other = (each.eval().activations(clips, ["fc6"])["fc6"] for each in (network, before))
    assert one.allclose(other, rtol=1e-3, atol=1e-2 * float(other.abs().max()))


def test_weights_of_another_input_are_refused(data: Path, tmp_path: Path, narrow_network: C3D) -> None:
    save_folder(narrow_network, tmp_path / "caffe")
    with pytest.raises(UsageError, match="profile 'caffe'; expected weights for 16 frames of 112 pixels"):
        run(tmp_path / "run", data, tmp_path / "caffe")


def test_the_command(
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = functools.partial(DistilSettings, settling_clips=16, fc_clips=2, everyday_clips=2)
    monkeypatch.setattr(distil_command, "DistilSettings", small)
    monkeypatch.chdir(data)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["c3dvideo", "distil", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
            raise SystemExit(0)
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    words = ["--teacher", "vectors.npz", "--videos", "videos", "--out", "run", "--init", start, "--device", "cpu"]
    options = ["--steps", 1, "--batch-size", 4, "--size", 32, "--generated", 0, "--json", "--workers", 0]
    code, out, _ = call(*words, *options)
    assert code == 0 and json.loads(out)["clips_of_videos"] == 2 and Path("run/weights/config.json").is_file()
    code, out, error = call(*words, *options)
    assert (code, out) == (2, "") and "continue it with `--resume`, or choose another `--out`" in error
    code, _, error = call(*words, *options, "--images", "pictures", "--out", "run2")
    assert code == 3 and "left out: 'pictures/bad.jpg'" in error
    code, _, error = call("--teacher", "none.npz", "--videos", "videos", "--out", "run3")
    assert code == 2 and "there is no file 'none.npz'" in error
    code, _, error = call("--teacher", "vectors.npz", "--out", "run3")
    assert code == 2 and "name folders with `--images`, `--videos`" in error
    code, _, error = call("--teacher", "vectors.npz", "--videos", "videos", "--out", "run3", "--device", "gpu")
    assert code == 2 and "device 'gpu' is not known; choose auto, cpu, cuda or cuda:N with `--device`" in error
    assert not Path("run3").exists()
