"""Run the code blocks of the documentation, and compare what they print with what the pages show.

python docs/blocks.py FOLDER PAGE...             # run in a copy of FOLDER, where the tour of the README was followed
python docs/blocks.py FOLDER PAGE... --update    # and write into the pages what differs

A ```text block right below a ```bash or ```python block is what that prints, on stdout and stderr together. Numbers
with a decimal point and hashes may differ in value, and `...` stands for anything. A comment above a block changes how
it is run:

    <!-- exit: 3 -->                the last command ends with this code
    <!-- not run: REASON -->        only the options of its commands are checked
    <!-- in an empty folder -->     above the heading of a page: it starts without the files of the tour
"""

import argparse
import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest import mock

_NEEDS_BASH = re.compile(r"[|<>$;&*`]")
_SHELL = frozenset({"|", ">", ">>", "<", "2>", "&&", "||", ";", "&"})
"""Where the words of a command end and those of the shell begin."""
_FENCE = re.compile(r"^```(\w*)$")
_MARK = re.compile(r"^<!-- (exit|not run): (.+) -->$")
_EMPTY = "<!-- in an empty folder -->"
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*\.\d+(e[-+]?\d+)?|\b[0-9a-f]{12,64}\b")


@dataclass(frozen=True)
class Block:
    """One block of code: where it stands, and the lines (first, end) of the output that is shown below it."""

    page: Path
    line: int
    language: str
    code: str
    exit_code: int = 0
    not_run: str = ""
    shown: str | None = None
    shown_lines: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """The bash and python blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = list(_fences(lines))
    blocks = []
    for number, (first, end, language) in enumerate(fences):
        if language not in ("bash", "python"):
            continue
        mark = _MARK.match(lines[first - 2]) if first > 1 else None
        marks = {mark[1]: mark[2]} if mark else {}
        shown, place = None, (0, 0)
        if number + 1 < len(fences):
            below, below_end, kind = fences[number + 1]
            if kind == "text" and not "".join(lines[end + 1 : below - 1]).strip():
                shown, place = "\n".join(lines[below:below_end]), (below, below_end)
        blocks.append(
            Block(
                page,
                first,
                language,
                "\n".join(lines[first:end]),
                exit_code=int(marks.get("exit", 0)),
                not_run=marks.get("not run", ""),
                shown=shown,
                shown_lines=place,
            )
        )
    return blocks


def _fences(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(index of the first line, index behind the last, language) of every fenced block."""
    start, language = None, ""
    for index, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence and start is None:
            start, language = index + 1, fence[1]
        elif line == "```" and start is not None:
            yield start, index, language
            start = None


def run_block(block: Block, names: dict[str, Any]) -> str:
    """What the block prints, run in the current folder; `names` holds the variables of the page's Python blocks."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if block.language == "python":
            exec(compile(block.code, str(block), "exec"), names)
            return printed.getvalue()
        commands = block.code.replace("\\\n", " ").splitlines()
        for number, command in enumerate(commands):
            wanted = block.exit_code if number == len(commands) - 1 else 0
            code = _run_command(command, printed)
            if code != wanted:
                raise AssertionError(f"{block}: {command} ended with {code}, not {wanted}:\n{printed.getvalue()}")
    return printed.getvalue()


def _run_command(command: str, printed: io.StringIO) -> int:
    """Run one line: commands of c3dvideo in this process, which has everything imported, all others in bash."""
    if command.startswith("c3dvideo ") and not _NEEDS_BASH.search(command.partition(" #")[0]):
        from c3dvideo.cli import main

        with mock.patch.object(sys, "argv", shlex.split(command, comments=True)):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
        return 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "PATH": path, "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed.write(done.stdout)
    return done.returncode


def check_options(block: Block) -> None:
    """Parse the commands of a block that is not run; a wrong option or argument raises."""
    from typer.main import get_command

    from c3dvideo.cli import app

    if block.language != "bash":
        compile(block.code, str(block), "exec")
        return
    for line in block.code.replace("\\\n", " ").splitlines():
        if not line.startswith("c3dvideo "):
            continue
        words = list(takewhile(lambda word: word not in _SHELL, shlex.split(line, comments=True)))
        command: Any = get_command(app)
        for place, word in enumerate(words[1:], start=2):
            command = command.commands[word]
            if not hasattr(command, "commands"):
                for parameter in command.params:
                    parameter.callback = None  # it would look for files
                command.make_context(command.name, words[place:])
                break


def is_as_shown(block: Block, printed: str) -> bool:
    """Whether the block printed what the page shows."""
    if block.shown is None:
        return True
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(_plain(block.shown), _plain(printed), flags)


def _plain(text: str) -> str:
    return _NUMBER.sub("#", text.replace(str(Path.cwd()), "")).strip() + "\n"


def show(page: Path, number: int, printed: str) -> None:
    """Write what block `number` printed into its page and into the translations of it: tour.md has tour.zh.md."""
    for each in (page, *page.parent.glob(f"{page.stem}.*.md")):
        lines = each.read_text(encoding="utf-8").splitlines()
        first, end = read_blocks(each)[number].shown_lines
        lines[first:end] = [line.rstrip() for line in printed.strip("\n").splitlines()]
        each.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(page: Path, workshop: Path, target: Path) -> None:
    """Fill the folder `target` with what the page builds on: the files of `workshop`, without copying their bytes."""
    if page.read_text(encoding="utf-8").startswith(_EMPTY):
        return
    for name in ("my_videos", "features"):
        shutil.copytree(workshop / name, target / name, copy_function=os.link)
    os.link(workshop / "probe.npz", target / "probe.npz")
    write_stand_ins(target)


def write_stand_ins(folder: Path) -> None:
    """Write small networks under the names of the authors' weights, which are not free to ship."""
    import numpy as np
    import torch

    from c3dvideo import C3D
    from c3dvideo.weights.formats.caffe import write_blob, write_model

    torch.manual_seed(0)
    network = C3D(num_classes=487, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16, filler="xavier")
    state = {name: array.numpy() for name, array in network.state_dict().items() if "mean" not in name}
    layers = dict.fromkeys(name.rsplit(".", 1)[0] for name in state)
    theirs = {f"{name}-1" if name in ("fc6", "fc7", "fc8") else name: name for name in layers}
    write_model(
        folder / "conv3d_deepnetA_sport1m_iter_1900000",
        {their: [state[f"{ours}.weight"], state[f"{ours}.bias"]] for their, ours in theirs.items()},
    )
    write_blob(folder / "sport1m_train16_128_mean.binaryproto", np.full((1, 3, 16, 128, 171), 100.0, np.float32))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workshop", type=Path)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--update", action="store_true", help="write what differs into the pages")
    arguments = parser.parse_args()
    n_wrong = 0
    for page in (path.resolve() for path in arguments.pages):
        with tempfile.TemporaryDirectory(dir=arguments.workshop.parent) as folder, contextlib.chdir(folder):
            prepare(page, arguments.workshop, Path(folder))
            names: dict[str, Any] = {"__name__": "__main__"}
            for number in range(len(read_blocks(page))):
                block = read_blocks(page)[number]
                if block.not_run:
                    check_options(block)
                    continue
                printed = run_block(block, names)
                if not is_as_shown(block, printed):
                    n_wrong += 1
                    print(f"{block} prints:\n{printed}")
                    if arguments.update:
                        show(page, number, printed)
    return 1 if n_wrong and not arguments.update else 0


if __name__ == "__main__":
    sys.exit(main())
