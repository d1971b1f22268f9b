"""Every package that c3dvideo and its extras need, from what is installed, and docs/licences.md from that.

python release/dependencies.py            # writes docs/licences.md; part of `make release`
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
UNKNOWN = "not stated"

INTRODUCTION = """# Licences

The licence of c3dvideo is the Apache License 2.0. It contains no code of the packages below: pip installs them beside
it. The table lists every package that the base install and the extras bring along, with the licence that its metadata
states. `make release` writes it from the versions in `constraints.txt`, on Linux with a PyTorch for CPUs. A PyTorch for
NVIDIA GPUs adds the CUDA libraries, which are under NVIDIA's licence. Weights that you import keep the licence of those
who published them.

| package | licence | needed by |
|---|---|---|
"""

# What the metadata of these packages does not state in one line: read in the licence text that each one installs.
READ_IN_TEXT = {
    "cycler": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "matplotlib": "PSF-based (matplotlib licence)",
    "scipy": "BSD-3-Clause",
}

# Spellings that packages use for the same licence.
SPDX = {
    **dict.fromkeys(
        ["Apache", "Apache 2", "Apache 2.0", "Apache License, Version 2.0", "Apache Software License"], "Apache-2.0"
    ),
    **dict.fromkeys(["3-Clause BSD License", "BSD 3-Clause License"], "BSD-3-Clause"),
    **dict.fromkeys(["BSD License", "BSD"], "BSD"),
    "ISC License": "ISC",
    "MIT License": "MIT",
}


def requirements() -> dict[str, list[Requirement]]:
    """Requirements of pyproject.toml: of the base install under "", of each extra under its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {name: [Requirement(line) for line in lines] for name, lines in groups.items() if name != "all"}


def closure(roots: Iterable[Requirement]) -> set[str]:
    """Canonical names of all packages that `roots` need on this platform, themselves included."""
    pending, seen = list(roots), set()
    while pending:
        one = pending.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in importlib.metadata.requires(one.name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *one.extras}):
                pending.append(needed)
    return {name for name, _ in seen}


def licence(name: str) -> str:
    """The licence that the metadata of an installed package states, in one line."""
    metadata = importlib.metadata.metadata(name)
    if name in READ_IN_TEXT:
        return READ_IN_TEXT[name]
    stated = metadata.get("License-Expression") or metadata.get("License") or ""
    if stated and "\n" not in stated and stated != "UNKNOWN":
        return SPDX.get(stated, stated)
    lines = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    names = [line.split(" :: ")[-1] for line in lines]
    return " or ".join(SPDX.get(name, name) for name in names) or UNKNOWN


def page() -> str:
    """docs/licences.md as Markdown."""
    needed_by: dict[str, list[str]] = {}
    for group, roots in requirements().items():
        for name in closure(roots):
            needed_by.setdefault(name, []).append(group)
    rows = []
    for name in sorted(needed_by):
        groups = ["everything"] if "" in needed_by[name] else sorted(needed_by[name])
        rows.append(f"| {name} | {re.sub(r'[|]', '/', licence(name))} | {', '.join(groups)} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)
