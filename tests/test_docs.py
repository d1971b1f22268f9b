"""The documentation does what it says: blocks print what is shown, generated pages are current, the site builds."""

import ast
import contextlib
import doctest
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import c3dvideo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def script(path: Path) -> ModuleType:
    """A script of docs/ as a module; docs/ is no package."""
    spec = spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


blocks = script(DOCS / "blocks.py")
README = blocks.read_blocks(ROOT / "README.md")
EXAMPLES_IN_DOCSTRINGS = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "src").rglob("*.py"))
    if ">>> " in path.read_text()
]
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if blocks.read_blocks(page) and page.name != "tour.zh.md"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a new user: this interpreter's commands first, nothing cached in the beginning."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "TERM": "dumb"}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder in which a new user followed the README to its end: every command and every line of Python in it.

    The first block runs in a shell, with the installed command. The others run in this process, as those of the pages
    do: each start of the command would import PyTorch again.
    """
    folder = tmp_path_factory.mktemp("workshop")
    first, *others = [block for block in README if not block.not_run]
    assert first.language == "bash" and {block.language for block in others} == {"bash", "python"}
    command = ["bash", "-euxo", "pipefail", "-c", first.code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for block in others:
            blocks.run_block(block, names)
    return folder


def test_the_readme_can_be_followed_to_its_end(workshop: Path) -> None:
    assert (workshop / "features/manifest.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(DOCS).as_posix() for page in PAGES])
def test_the_blocks_of_the_page_print_what_it_shows(
    page: Path, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.prepare(page, workshop, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks.read_blocks(page):
        if block.not_run:
            blocks.check_options(block)
            continue
        printed = blocks.run_block(block, names)
        assert blocks.is_as_shown(block, printed), f"{block} prints:\n{printed}\nand shows:\n{block.shown}"


@pytest.mark.parametrize("module", EXAMPLES_IN_DOCSTRINGS)
def test_the_examples_in_docstrings_are_right(
    module: str, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.prepare(DOCS / "index.md", workshop, tmp_path)
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(module), verbose=False)
    assert found.attempted > 0
    assert found.failed == 0


def test_every_public_function_has_an_example() -> None:
    without = {name for name in c3dvideo.__all__ if ">>> " not in (getattr(c3dvideo, name).__doc__ or "")}
    assert without == {"PROFILES", "train"}, "PROFILES is a dict; a training run is too long for an example"


def test_every_command_in_the_documentation_is_checked() -> None:
    """No command stands outside a bash block, where nothing would run it or check its options."""
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if page.name == "commands.md":
            continue
        checked = "\n".join(block.code for block in blocks.read_blocks(page)).splitlines()
        commands = [line for line in page.read_text().splitlines() if re.match(r"\s*c3dvideo \w", line)]
        assert [line for line in commands if line not in checked] == [], page.name


def test_a_translation_has_the_blocks_of_its_page() -> None:
    ours, theirs = blocks.read_blocks(DOCS / "tour.md"), blocks.read_blocks(DOCS / "tour.zh.md")
    assert [(block.code, block.shown) for block in theirs] == [(block.code, block.shown) for block in ours]


def test_the_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_example_runs(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_option_has_a_help_text() -> None:
    rows = re.findall(r"^\| (.+?) \| .*? \| (.*) \|$", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    assert len(rows) > 100
    assert [name for name, text in rows if not text.strip()] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                place = page.relative_to(ROOT)
                assert (page.parent / target).exists(), f"{place} links to {target}, which is not there"


def test_the_site_builds_strictly_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:link|script|img)\b[^>]*(?:href|src)=[\"']?(https?://[^\"' >]+)", page.read_text())
        assert loaded == [], f"{page.name} loads {loaded}"


def test_every_message_of_the_troubleshooting_page_is_in_the_source() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^### `(.+)`$", page, flags=re.MULTILINE)
    texts = [text for path in (ROOT / "src").rglob("*.py") for text in strings(ast.parse(path.read_text()))]
    assert len(messages) > 20
    assert [message for message in messages if not any(message in text for text in texts)] == []


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with an ellipsis where a value is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_reference_holds_every_public_name() -> None:
    named = re.findall(r"^::: c3dvideo\.(\w+)$", (DOCS / "reference.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(c3dvideo.__all__)
