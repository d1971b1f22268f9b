"""Weights folders: what is written is what is read, and everything that is wrong with one is said."""

import errno
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from c3dvideo import C3D
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.network.folder import fingerprint, save_folder
from c3dvideo.video.preprocess import PROFILES
from c3dvideo.weights import load
from c3dvideo.weights.check_weights import check_folder
from c3dvideo.weights.load import load_weights


@pytest.fixture
def folder(narrow_network: C3D, tmp_path: Path) -> Path:
    save_folder(narrow_network, tmp_path / "weights")
    return tmp_path / "weights"


def change_arrays(folder: Path, **arrays: torch.Tensor | None) -> None:
    changed = load_file(folder / "model.safetensors") | {name.replace("_dot_", "."): x for name, x in arrays.items()}
    save_file({name: x for name, x in changed.items() if x is not None}, folder / "model.safetensors")


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_folder_holds_everything(narrow_network: C3D, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == narrow_network.architecture
    assert config["classes"] == ["a", "b", "c", "d", "e"]
    assert config["profile"]["crop_left"] == 29
    arrays = load_file(folder / "model.safetensors")
    assert sorted(arrays) == sorted([*narrow_network.state_dict(), "mean_volume"]) == sorted(config["sha256"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_travels(profile: str, narrow_network: C3D, tmp_path: Path) -> None:
    narrow_network.profile = PROFILES[profile]
    save_folder(narrow_network, tmp_path)
    assert load_weights(tmp_path).profile == PROFILES[profile]


def test_half_precision_folder_loads_as_float32(narrow_network: C3D, tmp_path: Path) -> None:
    save_folder(narrow_network, tmp_path / "half", precision="fp16")
    assert load_file(tmp_path / "half" / "model.safetensors")["fc6.weight"].dtype == torch.float16
    loaded = load_weights(tmp_path / "half")
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert torch.equal(loaded.fc6.weight, narrow_network.fc6.weight.half().float())
    assert loaded.mean_volume is not None
    assert loaded.mean_volume.dtype == np.float32
    assert not check_folder(tmp_path / "half").faults


def test_a_network_being_trained_saves_and_loads(narrow_network: C3D, tmp_path: Path) -> None:
    narrow_network.train()
    narrow_network(torch.zeros(1, 3, 16, 112, 112)).sum().backward()
    save_folder(narrow_network, tmp_path)
    loaded = load_weights(tmp_path)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_failed_save_leaves_the_folder_as_it_was(
    narrow_network: C3D, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    narrow_network.provenance = {"cannot be written as JSON": object()}
    with pytest.raises(TypeError):
        save_folder(narrow_network, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ---- identity


def test_fingerprint_follows_what_decides_activations(narrow_network: C3D, folder: Path) -> None:
    same = fingerprint(narrow_network)
    assert len(same) == 64
    assert fingerprint(load_weights(folder)) == same
    narrow_network.classes = ("v", "w", "x", "y", "z")
    assert fingerprint(narrow_network) == same
    narrow_network.use_pool5("symmetric")
    assert fingerprint(narrow_network) != same
    narrow_network.use_pool5("ceil")
    assert narrow_network.mean_volume is not None
    narrow_network.mean_volume[0, 0, 0, 0] += 1
    assert fingerprint(narrow_network) != same
    narrow_network.mean_volume[0, 0, 0, 0] -= 1
    with torch.no_grad():
        narrow_network.fc7.bias[3] += 1e-6
    assert fingerprint(narrow_network) != same


def test_check_of_a_whole_folder(narrow_network: C3D, folder: Path) -> None:
    report = check_folder(folder)
    assert report.faults == ()
    assert report.fingerprint == fingerprint(narrow_network)
    assert report.n_parameters == sum(parameter.numel() for parameter in narrow_network.parameters())
    array = next(array for array in report.arrays if array.name == "conv3a.weight")
    assert array.shape == (8, 4, 3, 3, 3)
    assert array.std == pytest.approx(narrow_network.conv3a.weight.std(correction=0).item())
    assert array.recorded
    assert array.same is None


def test_check_against_another_copy_of_the_network(narrow_network: C3D, folder: Path, tmp_path: Path) -> None:
    narrow_network.mean_volume = None
    narrow_network.profile = PROFILES["jfzhang"]
    save_folder(narrow_network, tmp_path / "copy")
    report = check_folder(folder, against=tmp_path / "copy")
    assert report.faults == ()
    assert all(array.same for array in report.arrays if array.name != "mean_volume")
    with torch.no_grad():
        narrow_network.conv2a.weight[0, 0, 0, 0, 0] += 1
    save_folder(narrow_network, tmp_path / "copy")
    assert check_folder(folder, against=tmp_path / "copy").faults == (
        f"conv2a.weight is not the array of {tmp_path / 'copy'}",
    )


# ---- what is wrong with a folder


WRONG = [
    ({"fc7_dot_weight": torch.zeros(16, 12)}, r"fc7.weight is \(16, 12\), expected \(16, 16\)"),
    ({"fc7_dot_weight": torch.full((16, 16), torch.nan)}, "fc7.weight holds 256 values that are not finite"),
    ({"fc7_dot_weight": None}, "fc7.weight is missing"),
    ({"fc9_dot_weight": torch.zeros(2)}, r"fc9.weight \(2,\) belongs to another network"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_arrays_that_do_not_fit(arrays: dict[str, Any], message: str, folder: Path) -> None:
    change_arrays(folder, **arrays)
    with pytest.raises(WeightsError, match=message):
        load_weights(folder)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(check_folder(folder).faults))


def test_arrays_changed_behind_the_configs_back(folder: Path) -> None:
    change_arrays(folder, fc7_dot_bias=torch.ones(16))
    with pytest.raises(WeightsError, match=r"fc7.bias changed after the folder was written .*c3dvideo weights check"):
        load_weights(folder)
    assert check_folder(folder).faults == ("fc7.bias is not the array that the config was written for",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", lambda content: content[: len(content) // 2], "is damaged or cut short"),
        ("model.safetensors", lambda content: b"", "is damaged or cut short"),
        ("model.safetensors", lambda content: b"hello, this is text", "is damaged or cut short"),
        ("config.json", lambda content: content[:100], "it is not JSON"),
        ("config.json", lambda content: b"", "it is not JSON"),
        ("config.json", lambda content: b"[]", "it holds a list, expected an object"),
    ],
)
def test_damaged_files(name: str, content: Any, message: str, folder: Path) -> None:
    (folder / name).write_bytes(content((folder / name).read_bytes()))
    with pytest.raises(WeightsError, match=message):
        load_weights(folder)
    assert len(check_folder(folder).faults) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_files(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"is not a weights folder: it has no {name}"):
        load_weights(folder)
    with pytest.raises(WeightsError, match=f"it has no {name}"):
        C3D.from_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": {"num_classes": 5, "width": 3}}, "describes no C3D network: .*width"),
        ({"architecture": {"num_classes": 5, "stages": [[4]]}}, "describes no C3D network: C3D has five stages"),
        ({"profile": {"name": "caffe", "sharpen": 1}}, "unknown sharpen"),
    ],
)
def test_configs_that_describe_no_network(values: dict[str, Any], message: str, folder: Path) -> None:
    change_config(folder, **values)
    with pytest.raises(WeightsError, match=message):
        load_weights(folder)
    assert len(check_folder(folder).faults) == 1


def test_check_sees_what_loading_would_not(folder: Path) -> None:
    change_config(folder, classes=["a", "b"])
    change_arrays(folder, mean_volume=None)
    assert check_folder(folder).faults == (
        "2 class names for 5 classes",
        "the mean volume is missing, expected (3, 16, 128, 171) for profile caffe",
    )


# ---- names


def test_a_fresh_last_layer_is_announced(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"have 5 classes but num_classes is 7: .*fc8.* untrained"):
        network = C3D.from_pretrained(folder, num_classes=7)
    assert network(torch.zeros(1, 3, 16, 112, 112)).shape == (1, 7)
    assert network.classes == ()
    assert network.architecture["num_classes"] == 7
    assert torch.equal(network.fc7.weight, C3D.from_pretrained(folder).fc7.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert C3D.from_pretrained(folder, num_classes=5).classes == ("a", "b", "c", "d", "e")


def test_options_that_would_be_ignored_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="from_pretrained does not take dropout"):
        C3D.from_pretrained(folder, dropout=0.1)


def test_default_weights(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "EMBEDDED", folder)
    assert load_weights().classes == load_weights("embedded").classes == ("a", "b", "c", "d", "e")
    monkeypatch.setattr(load, "EMBEDDED", tmp_path / "none")
    with pytest.raises(WeightsError, match=r"ships no default weights; give a folder made by"):
        load_weights()


def test_names_that_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "c3d.pickle").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"is a file; turn it into a weights folder with `c3dvideo weights import"):
        load_weights(tmp_path / "c3d.pickle")
    with pytest.raises(
        UsageError, match=r"'sport1m' are neither a folder, nor a hub id .* nor one of sports1m, ucf101"
    ):
        load_weights("sport1m")
    with pytest.raises(UsageError, match="neither a folder"):
        load_weights("/no/such/folder")
    with pytest.raises(WeightsError, match="is not a weights folder"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fc_width", 10**12),
        ("stages", [["wide"], [2], [2, 2], [2, 2], [2, 2]]),
        ("stages", None),
        ("temporal_depths", [3, 3, 3, 3, 10**9 + 1]),
        ("dropout", "much"),
        ("unknown", 1),
    ],
)
def test_an_absurd_architecture_in_a_config_is_a_weights_error(folder: Path, key: str, value: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architecture"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="describes no C3D network"):
        load_weights(folder)


@pytest.mark.parametrize("profile", [{}, {"name": "x", "mean": "many"}, {"crop_size": [1]}, {"resize_width": "wide"}])
def test_a_damaged_profile_in_a_config_is_a_weights_error(folder: Path, profile: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["profile"] = profile
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError):
        load_weights(folder)


def test_a_full_disk_leaves_nothing_behind(
    narrow_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        Path(arguments[1]).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("c3dvideo.network.folder.save_file", full)
    with pytest.raises(WeightsError, match="could not be written") as caught:
        save_folder(narrow_network, tmp_path / "out")
    assert "Errno" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made(narrow_network: C3D, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="could not be written"):
        save_folder(narrow_network, tmp_path / "file" / "out")
