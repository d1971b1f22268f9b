"""The wheel: built twice it has the same bytes, and without any extra it extracts and predicts."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import c3dvideo
from c3dvideo.extras import PACKAGES

ROOT = Path(__file__).parents[1]
BASE = {"jinja2"}  # also needed by the base install


def build(out: Path, *, umask: int) -> dict[str, str]:
    """The sha256 of the sdist and of the wheel that is built from it, by name."""
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(words, capture_output=True, text=True, check=True, umask=umask)
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    out = tmp_path_factory.mktemp("dist")
    return out, build(out, umask=0o022)


def test_two_builds_have_the_same_bytes(built: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    version = c3dvideo.__version__
    assert set(built[1]) == {f"c3dvideo-{version}.tar.gz", f"c3dvideo-{version}-py3-none-any.whl"}
    assert build(tmp_path / "again", umask=0o077) == built[1]


def test_the_archives_hold_what_they_should(built: tuple[Path, dict[str, str]]) -> None:
    with zipfile.ZipFile(next(built[0].glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    package = ROOT / "src/c3dvideo"
    kept = {
        path.relative_to(ROOT / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == kept
    with tarfile.open(next(built[0].glob("*.tar.gz"))) as sdist:
        inside = {name.split("/", 1)[1] for name in sdist.getnames()}
    assert {"hubconf.py", "Makefile", "constraints.txt", "tests/conftest.py", "LICENSE", "CITATION.cff"} <= inside
    assert not any("__pycache__" in name or name.startswith(".git/") for name in inside)


def test_the_base_install_extracts_and_predicts(
    built: tuple[Path, dict[str, str]], tmp_path: Path, moving_square: Callable[..., Path]
) -> None:
    """The wheel alone, in a Python in which no package of any extra can be imported."""
    wheel = next(built[0].glob("*.whl"))
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "site",
    ]
    subprocess.run([*words, wheel], capture_output=True, check=True)
    video = moving_square(tmp_path / "videos/a.mp4", n_frames=20)
    extras = sorted({package for packages in PACKAGES.values() for package in packages} - BASE)
    (tmp_path / "site/sitecustomize.py").write_text(
        f"import sys\nfor name in {extras!r}:\n    sys.modules[name] = None  # importing it raises ImportError\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "C3DVIDEO_COMPILE": "0"}

    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "c3dvideo", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version").strip() == f"c3dvideo {c3dvideo.__version__}"
    assert json.loads(run("extract", video, "--out", "features", "--json"))["n_done"] == 1
    assert (tmp_path / "features/a.mp4.npz").is_file()
    assert json.loads(run("predict", video, "--json"))["predictions"][0]["top"]
    where = [sys.executable, "-c", "import c3dvideo; print(c3dvideo.__file__)"]
    printed = subprocess.run(where, capture_output=True, text=True, env=environment, check=True).stdout
    assert printed.startswith(str(tmp_path / "site"))
