"""The package as a whole: public names, start-up, and a wheel that installs from nothing."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

import c3dvideo

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_no_torch() -> None:
    found = run_python("import c3dvideo, sys; print([name for name in ('torch', 'numpy') if name in sys.modules])")
    assert found.strip() == "[]"


def test_help_of_every_command_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "av", "sklearn", "lightning", "matplotlib", "huggingface_hub", "h5py", "pyarrow", "onnx"]
    code = (
        "import sys\nfrom c3dvideo import cli\n"
        "try:\n    cli.app(args=['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {heavy!r} if name in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "HEAVY []"


def test_every_public_name_exists() -> None:
    for name in c3dvideo.__all__:
        assert getattr(c3dvideo, name).__doc__, f"{name} has no docstring"
    assert set(c3dvideo.__all__) <= set(dir(c3dvideo))


def test_the_public_names_are_listed_once() -> None:
    """Python, type checkers and readers see the same names: __all__, TYPE_CHECKING, the lazy imports, the docstring."""
    tree = ast.parse((ROOT / "src/c3dvideo/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == {name: f"c3dvideo.{home}" for name, home in c3dvideo._HOMES.items()}
    assert sorted(c3dvideo.__all__) == sorted(imported)
    listed = re.findall(r"^[A-Z][a-z]+ {2,}(.+)$", c3dvideo.__doc__ or "", flags=re.MULTILINE)
    assert sorted(", ".join(listed).split(", ")) == sorted(imported)


def test_extras_add_up_to_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = extras["all"][0].removeprefix("c3dvideo[").removesuffix("]").split(",")
    assert sorted(named) == sorted(set(extras) - {"all"})


def test_every_module_stands_in_the_architecture_page_under_its_whole_path() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py"]
    listed = set(re.findall(r"^\| `([\w/.]+)`", page, flags=re.MULTILINE))
    assert listed == {path.relative_to(ROOT / "src/c3dvideo").as_posix() for path in sources}


def test_every_package_stands_in_the_readme() -> None:
    tree = (ROOT / "README.md").read_text().split("## Architecture", 1)[1].split("## ", 1)[0]
    named = set(re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "src/c3dvideo").glob("*/__init__.py")}


def test_the_layers_are_the_same_in_readme_contributing_and_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.split(" | ") for layer in contracts[0]["layers"] if layer != "__main__"]
    text = re.search(r"    cli -> .*?\n\n", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    assert text is not None
    assert [layer.split(" | ") for layer in " ".join(text[0].split()).split(" -> ")] == layers
    tree = (ROOT / "README.md").read_text().split("## Architecture", 1)[1].split("## ", 1)[0]
    named = re.findall(r"(?:^|  )(\w+)(?:/|\.py)(?=\s)", tree.split("src/c3dvideo/\n")[1].split("tests/")[0])
    order = {name: number for number, layer in enumerate(layers) for name in layer}
    assert sorted(named) == sorted(order)
    assert [order[name] for name in named] == sorted(order[name] for name in named)


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.name for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py")
    assert [name for name, n in names.items() if n > 1] == []


def test_no_modules_name_each_other_in_a_ring_for_type_checkers_either() -> None:
    """The import contract leaves out TYPE_CHECKING blocks, which the package itself needs for its lazy names."""
    graph = grimp.build_graph("c3dvideo", cache_dir=None)
    graph.remove_module("c3dvideo")
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_the_command_line_defines_no_choices_of_its_own() -> None:
    for path in sorted((ROOT / "src/c3dvideo/cli").glob("*.py")):
        assert "Literal" not in path.read_text(), f"{path.name} spells out a choice; import it from c3dvideo.choices"
