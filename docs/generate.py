"""Write the generated pages of docs/: every command from the command line, every module from its docstring.

python docs/generate.py            # `make docs`
python docs/generate.py --check    # exit 1 when a page differs from what the code says
"""

import argparse
import ast
import inspect
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from c3dvideo.cli import app

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "c3dvideo"

INTRODUCTION = """# Commands

Generated from the code by `make docs`. stdout carries results (`--json` for machines), stderr progress and notes.
Exit codes: 0 all done; 1 failed, with one line on stderr (`--debug` anywhere on the line shows the traceback);
2 wrong usage; 3 finished, but some inputs failed and are listed.
"""

ARCHITECTURE = """# Architecture

Generated from the first line of every module by `make docs`.

```
file, frame folder, camera or URL
  -> video        uint8 frames with exact timestamps, then clips: uint8 (n, 3, 16, 112, 112)
  -> inference    named activations, on a CPU or a GPU
  -> features     one .npz per video and one manifest per folder
       -> features.convert   the files that other projects read
       -> probing            descriptors, linear classifiers, predictions
            -> evaluation    the paper's protocols
datasets -> training -> a weights folder, loaded by weights.load like any other
```

Imports only point down this order: {layers}. Modules inside a package never import each other in a ring.
`make check` enforces both.
"""


def commands() -> str:
    """docs/commands.md as Markdown."""
    return "\n".join([INTRODUCTION, *_sections(get_command(app), "c3dvideo")])


def _sections(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            yield from _sections(command.commands[name], f"{path} {name}")
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
    names = [one.name.upper() + ("..." if one.nargs == -1 else "") for one in arguments]
    usage = " ".join([path, *names, *(["[OPTIONS]"] if options else [])])
    yield f"## {path}\n\n    {usage}\n\n{inspect.cleandoc(command.help or '')}\n"
    if arguments or options:
        yield "| | default | |\n|---|---|---|"
        yield from (_row(one) for one in [*arguments, *options])
        yield ""


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = parameter.name.upper()
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    text = " ".join((parameter.help or "").split()).replace("|", "\\|").replace("[", "\\[")
    return f"| {names} | {_default(parameter)} | {text} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default() if callable(parameter.default) else parameter.default
    if value is None or value is False or value in ((), []):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(f"`{getattr(one, 'value', one)}`" for one in value)
    return f"`{getattr(value, 'value', value)}`"


def architecture() -> str:
    """docs/architecture.md as Markdown: one table per package, one line per module."""
    contracts = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = [ARCHITECTURE.format(layers=" -> ".join(contracts[0]["layers"]))]
    packages: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        packages.setdefault(path.parent.relative_to(SOURCE).as_posix(), []).append(path)
    for package, paths in sorted(packages.items(), key=lambda item: (item[0] != ".", item[0])):
        init = SOURCE / package / "__init__.py"
        title = "c3dvideo" if package == "." else f"c3dvideo/{package}"
        page.append(f"## {title}\n\n{_first_line(init)}\n\n| module | |\n|---|---|")
        page += [f"| `{path.relative_to(SOURCE).as_posix()}` | {_first_line(path)} |" for path in paths if path != init]
        page.append("")
    return "\n".join(page)


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


PAGES = {"commands.md": commands, "architecture.md": architecture}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    if check:
        stale = [name for name, write in PAGES.items() if (DOCS / name).read_text() != write()]
        for name in stale:
            print(f"docs/{name} is stale: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name, write in PAGES.items():
        (DOCS / name).write_text(write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
