"""What the command line prints besides its tables: notes, JSON, and messages that name flags.

    note("choose another `out=`")              # stderr: choose another `--out`

The library names its arguments as `name=` in backticks, because most of its readers write Python. Whoever typed a
command reads the flag of the same meaning instead: `--name`, or `c3dvideo extract --name` where their own command has
no such flag. (A damaged video, for one, may be read by any command, and only some can keep its good clips.)
"""

import json
import math
import re
from shlex import quote
from typing import Any

import typer

from c3dvideo.video.access import without_secrets

# Arguments of the library whose flag has another name.
OTHER_NAMES = {"layers": "layer", "batch_clips": "batch_size", "names": "only"}
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)=([^`]*)`")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_flags: dict[str, str] = {}
_all_commands: list[Any] = [None]


def speak_for(command: Any, others: Any = None) -> None:
    """Take the names of flags and arguments from `command`, a Click command, for every message from here on.

    others: the group of all commands, for arguments that `command` lacks; the first command that has one is named.
    """
    _flags.clear()
    _all_commands[:] = [others]
    for parameter in getattr(command, "params", ()):
        if parameter.name is not None:
            is_option = parameter.param_type_name == "option"
            shown = parameter.metavar or parameter.name.upper()
            _flags[parameter.name] = max(parameter.opts, key=len) if is_option else shown


def _flag_elsewhere(argument: str, group: Any, words: str = "c3dvideo") -> str:
    """The flag of the first command below `group` that has the argument, after that command; "" when none has it."""
    for name, command in getattr(group, "commands", {}).items():
        for parameter in command.params:
            if parameter.name == argument and parameter.param_type_name == "option":
                return f"{words} {name} {max(parameter.opts, key=len)}"
        if found := _flag_elsewhere(argument, command, f"{words} {name}"):
            return found
    return ""


def with_flags(text: str) -> str:
    """The message with every `name=value` in backticks as the flag that sets it, and without secrets of addresses."""
    return _ARGUMENT.sub(lambda match: f"`{_flag(match[1], match[2].strip())}`", without_secrets(text))


def note(text: str) -> None:
    """Print one line on stderr; a line end or another control character, as names of files may have, is escaped."""
    typer.echo(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], with_flags(text)), err=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN and infinity, which JSON lacks, become null.

    A byte of a file name that is not UTF-8 is a surrogate in Python, and an escape such as `udce9` in the document.
    """
    text = json.dumps(_plain(document), indent=2, ensure_ascii=False)
    typer.echo(_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def rounded_seconds(document: Any, *, key: str = "") -> Any:
    """The document with the numbers under every key that ends in "seconds" rounded to milliseconds."""
    if isinstance(document, dict):
        return {name: rounded_seconds(value, key=name) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [rounded_seconds(value, key=key) for value in document]
    return round(document, 3) if isinstance(document, float) and key.endswith("seconds") else document


def _flag(name: str, value: str) -> str:
    name = name if name in _flags else OTHER_NAMES.get(name, name)
    flag = _flags.get(name) or _flag_elsewhere(name, *_all_commands) or f"--{name.replace('_', '-')}"
    if value in ("", "True"):
        return flag
    if value == "False":
        return flag.replace("--", "--no-", 1)
    plain = value.strip("[]()").replace(", ", " ").translate(_NO_QUOTES)
    return f"{flag} {quote(plain) if _FOR_THE_SHELL & set(plain) else plain}"


_FOR_THE_SHELL = frozenset("\\()*?$&;|<>!#")  # a shell would change them; of a list, the spaces stay
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
