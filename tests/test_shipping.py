"""What ships around the package agrees with it: make verbs, CI, containers, citation."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import c3dvideo

ROOT = Path(__file__).parents[1]
VERBS = ("help", "install", "demo", "test", "check", "format", "bench", "docs", "audit", "release")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_make_has_the_customary_verbs() -> None:
    assert make_targets() == set(VERBS)


@pytest.mark.parametrize("name", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_calls_make_verbs_only(name: str) -> None:
    text = (ROOT / name).read_text()
    called = re.findall(r"\bmake (\w+)", text)
    assert {"check", "test"} <= set(called) <= make_targets()
    if name.endswith(".yml"):
        steps = yaml.safe_load(text)["jobs"]["test"]["steps"]
        assert all(step["run"].startswith("make ") for step in steps if "run" in step)


def test_ci_runs_every_python_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named


@pytest.mark.parametrize("path", sorted((ROOT / "docker").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_a_container_copies_what_is_there(path: Path) -> None:
    words = [line.split()[1:-1] for line in path.read_text().splitlines() if line.startswith("COPY ")]
    copied = {name for line in words for name in line}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == c3dvideo.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["references"][0]["year"] == 2015


def test_pinned_versions_cover_every_dependency() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [data["project"]["dependencies"], *data["project"]["optional-dependencies"].values()]
    groups += [[line for line in group if isinstance(line, str)] for group in data["dependency-groups"].values()]
    needed = {re.split(r"[\[<>=;]", line)[0].lower() for group in groups for line in group} - {"c3dvideo"}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    assert needed <= pinned
