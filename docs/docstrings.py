"""Docstrings as Markdown for the Python reference: arguments as a list, doctests as code.

Used by mkdocs.yml as an extension of Griffe. The docstrings themselves stay plain text, for `help` and for editors.
"""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Extension

_ARGUMENT = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): (.+)$")


def as_markdown(docstring: str) -> str:
    """The docstring with lines `name: text` as a list and `>>>` lines as a fenced block."""
    return "\n".join(_lines(docstring.splitlines()))


def _lines(lines: list[str]) -> Iterator[str]:
    in_list = in_example = False
    for line in lines:
        if line.startswith(">>> ") and not in_example:
            in_example = True
            yield from ("", "```python")
        if in_example:
            if line:
                yield line
                continue
            in_example = False
            yield "```"
        argument = _ARGUMENT.match(line)
        if argument:
            if not in_list:
                yield ""
            names = ", ".join(f"`{name}`" for name in argument[1].split(", "))
            yield f"- {names}: {argument[2]}"
        elif in_list and line and not line.startswith(" "):
            yield from ("", line)
        else:
            yield line
        in_list = bool(argument) or (in_list and line.startswith(" "))
    if in_example:
        yield "```"


class Docstrings(Extension):
    """Rewrites every docstring that Griffe loads."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value.replace("[,", "\\[,"))  # else it is a link
