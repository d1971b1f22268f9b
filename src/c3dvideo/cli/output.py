"""What the command line prints besides its tables: notes, JSON, and messages that name flags.

    note("choose another `out=`")              # stderr: choose another `--out`

The library names its arguments as `name=` in backticks, because most of its readers write Python. Whoever typed a
command reads the flag of the same meaning instead.
"""

import json
import math
import re
from typing import Any

import typer

# Arguments of the library whose flag has another name.
OTHER_NAMES = {"layers": "layer", "batch_clips": "batch_size", "names": "only"}
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)=([^`]*)`")

_SURROGATE = re.compile("[\ud800-\udfff]")

_flags: dict[str, str] = {}


def speak_for(command: Any) -> None:
    """Take the names of flags and arguments from `command`, a Click command, for every message from here on."""
    _flags.clear()
    for parameter in getattr(command, "params", ()):
        if parameter.name is not None:
            is_option = parameter.param_type_name == "option"
            shown = parameter.metavar or parameter.name.upper()
            _flags[parameter.name] = max(parameter.opts, key=len) if is_option else shown


def with_flags(text: str) -> str:
    """The message with every `name=value` in backticks as the flag that sets it: `--name value`."""
    return _ARGUMENT.sub(lambda match: f"`{_flag(match[1], match[2].strip())}`", text)


def note(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(with_flags(text), err=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN and infinity, which JSON lacks, become null.

    A byte of a file name that is not UTF-8 is a surrogate in Python, and an escape such as `udce9` in the document.
    """
    text = json.dumps(_plain(document), indent=2, ensure_ascii=False)
    typer.echo(_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _flag(name: str, value: str) -> str:
    name = name if name in _flags else OTHER_NAMES.get(name, name)
    flag = _flags.get(name, f"--{name.replace('_', '-')}")
    if value in ("", "True"):
        return flag
    if value == "False":
        return flag.replace("--", "--no-", 1)
    return f"{flag} {value.strip('[]()').replace(', ', ' ').translate(_NO_QUOTES)}"


_NO_QUOTES = str.maketrans("", "", "\"'")


def _plain(document: Any) -> Any:
    if isinstance(document, str):
        return with_flags(document)
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_plain(value) for value in document]
    return document
