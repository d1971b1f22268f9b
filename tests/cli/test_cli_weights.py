"""`c3dvideo weights`: what it prints, where, and with which exit code."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from c3dvideo import C3D
from c3dvideo.cli import app
from c3dvideo.errors import UnsafePickleError, UsageError, WeightsError
from c3dvideo.network.folder import fingerprint
from c3dvideo.weights.formats.pickles import write_torch
from c3dvideo.weights.load import load_weights
from c3dvideo.weights.published import PUBLISHED

runner = CliRunner()


@pytest.fixture
def file(narrow_network: C3D, tmp_path: Path) -> Path:
    torch.save({"state_dict": narrow_network.state_dict(), "epoch": 3}, tmp_path / "c3d.pth")
    return tmp_path / "c3d.pth"


def test_import_says_what_it_made(file: Path, narrow_network: C3D, tmp_path: Path) -> None:
    narrow_network.use_pool5("ceil")
    np.save(tmp_path / "mean.npy", narrow_network.mean_volume)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    out = tmp_path / "weights"
    options = ["--mean", str(tmp_path / "mean.npy"), "--classes", str(tmp_path / "names.txt"), "--out", str(out)]
    result = runner.invoke(app, ["weights", "import", str(file), *options])
    assert result.exit_code == 0, result.output
    same, n_parameters = fingerprint(narrow_network), sum(p.numel() for p in narrow_network.parameters())
    assert result.stdout == (
        f"{out}: state dict, {n_parameters:,} parameters, 5 classes, profile caffe, pool5 ceil, "
        f"fingerprint {same[:16]}\n"
    )
    assert "note: not used: epoch\n" in result.stderr
    assert fingerprint(load_weights(out)) == same


def test_import_as_json(file: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["weights", "import", str(file), "--out", str(tmp_path / "out"), "--json"])
    summary = json.loads(result.stdout)
    assert summary["profile"] == "caffe_channel_mean"
    assert summary["num_classes"] == 5
    assert any("no mean volume was given" in note for note in summary["notes"])


def test_import_refuses_a_malicious_pickle(tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "proof").encode() + b"'\ntR.")
    result = runner.invoke(app, ["weights", "import", str(tmp_path / "evil.pkl"), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UnsafePickleError)
    assert "calls for os.system" in str(result.exception)
    assert not (tmp_path / "proof").exists()
    assert not (tmp_path / "out").exists()


def test_check_exit_codes(narrow_network: C3D, tmp_path: Path) -> None:
    narrow_network.save_pretrained(tmp_path / "weights")
    folder = str(tmp_path / "weights")
    result = runner.invoke(app, ["weights", "check", folder])
    assert result.exit_code == 0
    assert f"whole, fingerprint {fingerprint(narrow_network)}" in result.stdout
    assert "conv3a.weight    8x4x3x3x3" in result.stdout
    arrays = load_file(tmp_path / "weights" / "model.safetensors")
    arrays["fc6.bias"][0] = torch.inf
    save_file(arrays, tmp_path / "weights" / "model.safetensors")
    result = runner.invoke(app, ["weights", "check", folder])
    assert result.exit_code == 1
    assert "wrong: fc6.bias holds 1 values that are not finite\n" in result.stdout
    result = runner.invoke(app, ["weights", "check", folder, "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["faults"] == [
        "fc6.bias holds 1 values that are not finite",
        "fc6.bias is not the array that the config was written for",
    ]
    assert len(report["arrays"]) == 23


def test_check_against(narrow_network: C3D, tmp_path: Path) -> None:
    for name in ("one", "two"):
        narrow_network.save_pretrained(tmp_path / name)
    arguments = ["weights", "check", str(tmp_path / "one"), "--against", str(tmp_path / "two")]
    assert runner.invoke(app, arguments).exit_code == 0


def test_check_of_no_folder(tmp_path: Path) -> None:
    result = runner.invoke(app, ["weights", "check", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not a weights folder" in result.stdout


def test_list_names_everything_published() -> None:
    text = runner.invoke(app, ["weights", "list"]).stdout
    listed = {entry["name"]: entry for entry in json.loads(runner.invoke(app, ["weights", "list", "--json"]).stdout)}
    assert listed.keys() == {"embedded", *PUBLISHED}
    for name, entry in listed.items():
        assert f"{name}: {entry['what']}\n" in text
        assert entry["licence"] in text
        assert all(url in text for url in entry["urls"])
    assert "    use      --weights sports1m\n" in text
    assert "hash     sha256 dcc47ddc\n" in text
    assert listed["lasagne"]["size"] == 319_965_140


def test_export_to_another_project_says_that_the_disk_is_full(narrow_network: C3D, tmp_path: Path) -> None:
    """No file may grow beyond 9 kB: the system refuses as it does on a full disk."""
    out, limits = tmp_path / "out/w.pth", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"w\.pth could not be written: the file would be larger"):
            write_torch(narrow_network.state_dict(), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(out.parent.iterdir()) == []
    write_torch(narrow_network.state_dict(), out)
    assert torch.load(out, weights_only=True).keys() == narrow_network.state_dict().keys()


def test_check_takes_the_name_of_weights() -> None:
    result = runner.invoke(app, ["weights", "check", "embedded"])
    assert result.exit_code == 0
    assert "embedded: 4,885,960 parameters, profile embedded: whole, fingerprint " in result.stdout


def test_a_mistyped_name_gets_a_proposal() -> None:
    with pytest.raises(UsageError, match=r"embedded; did you mean 'sports1m'\?"):
        load_weights("sport1m")
