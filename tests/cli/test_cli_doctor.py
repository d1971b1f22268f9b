"""`c3dvideo doctor`."""

import json

from typer.testing import CliRunner

from c3dvideo.cli import app
from c3dvideo.inference.cpu import kernels


def test_doctor_says_what_will_be_used() -> None:
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert found["engine"]["on_cpu"] == "winograd"
    assert found["engine"]["kernels"] == ("compiled" if kernels.load() else "plain PyTorch")
    assert found["processor"]["cores"] >= 1
    assert found["extras"].keys() >= {"train", "hdf5", "onnx"}


def test_doctor_for_people() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "engine" in result.stdout
    assert "winograd" in result.stdout
