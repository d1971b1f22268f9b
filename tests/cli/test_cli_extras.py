"""A missing extra is reported before any work, in one line that also works from a checkout."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.errors import MissingExtraError
from c3dvideo.extras import EXTRAS, PACKAGES, installed_extras, require_extra

Run = Callable[..., tuple[int, str, str]]
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


def test_the_table_is_that_of_the_project() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"all"}
    for extra, packages in PACKAGES.items():
        assert [re.split(r"[\[>]", line)[0].replace("-", "_") for line in extras[extra]] == list(packages)


def test_an_installed_extra_is_no_error() -> None:
    assert set(installed_extras()) == set(EXTRAS)
    for extra, installed in installed_extras().items():
        if installed:
            require_extra(extra)  # type: ignore[arg-type]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package_names_the_command_to_run(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = PACKAGES[extra][0]  # type: ignore[index]  # the first is named, whether or not the others are installed
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError) as error:
        require_extra(extra)  # type: ignore[arg-type]
    assert str(error.value) == f'{missing} is not installed; run: pip install "c3dvideo[{extra}]"'
    assert installed_extras()[extra] is False


@pytest.mark.parametrize(
    ("missing", "extra", "words"),
    [
        ("torchmetrics", "train", "train videos --out out"),
        ("matplotlib", "train", "evaluate depth videos --out out"),
        ("matplotlib", "plots", "demo --out out"),
        ("matplotlib", "plots", "evaluate map features --labels-from-folders --out out"),
        ("matplotlib", "plots", "evaluate scenes features --labels-from-folders --out out"),
        ("matplotlib", "plots", "probe score features --labels-from-folders --probe p.npz --picture out/x.png"),
        ("h5py", "hdf5", "convert features --to hdf5 --out out"),
        ("h5py", "hdf5", "convert features --to activitynet --out out"),
        ("h5py", "hdf5", "convert features --to tall --merge --out out"),
        ("pyarrow", "parquet", "convert features --to parquet --out out"),
        ("captum", "explain", "explain features --out out"),
        ("matplotlib", "explain", "explain features --method filters --out out"),
        ("ruptures", "segment", "segment features"),
        ("matplotlib", "plots", "plot confusion features --out out/x.png"),
        ("matplotlib", "plots", "plot timeline features --out out/x.svg"),
        ("fastapi", "web", "watch features --page"),
    ],
)
def test_a_command_reports_it_before_any_work(
    missing: str, extra: str, words: str, run: Run, monkeypatch: pytest.MonkeyPatch, feature_folder: Callable[..., Path]
) -> None:
    Path("videos").mkdir()
    feature_folder(Path("features"), {"a/x.mp4": np.zeros((2, 8)), "b/y.mp4": np.ones((2, 8))})
    monkeypatch.setitem(sys.modules, missing, None)
    shown = run(*words.split())
    assert shown == (1, "", f'c3dvideo: {missing} is not installed; run: pip install "c3dvideo[{extra}]"\n')
    assert sorted(path.name for path in Path().iterdir()) == ["features", "videos"]
