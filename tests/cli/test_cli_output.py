"""What the command line prints: flags in place of argument names, one line per error, JSON that every reader takes."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from c3dvideo.cli import app
from c3dvideo.cli.output import OTHER_NAMES, note, print_json, rounded_seconds, speak_for, with_flags
from c3dvideo.video.access import without_secrets

Run = Callable[..., tuple[int, str, str]]
SOURCE = Path(__file__).parents[2] / "src/c3dvideo"


@pytest.fixture
def extract_command() -> Iterator[None]:
    speak_for(command("extract"))
    yield
    speak_for(None)


def command(*words: str) -> Any:
    found: Any = get_command(app)
    for word in words:
        found = found.commands[word]
    return found


@pytest.mark.parametrize(
    ("library", "shown"),
    [
        ("choose another `out=`", "choose another `--out`"),
        ("start clips closer: `stride_frames=8`", "start clips closer: `--stride-frames 8`"),
        ('repeat frames (`short="repeat_last"`)', "repeat frames (`--short repeat_last`)"),
        ('name one: `layers=["fc6"]`', "name one: `--layer fc6`"),
        (r"`group_pattern='v_(\w+_g\d+)_'`", r"`--group-pattern 'v_(\w+_g\d+)_'`"),
        ("allow it: `allow_leaks=True`", "allow it: `--allow-leaks`"),
        ("no `batch_norm=False`", "no `--no-batch-norm`"),
        ("`inputs=` is empty", "`INPUTS` is empty"),
        ("run `c3dvideo weights import FILE --out DIR`", "run `c3dvideo weights import FILE --out DIR`"),
        ("call `c3d(num_classes=10)`", "call `c3d(num_classes=10)`"),
        ("`out=` or `weights=`", "`--out` or `--weights`"),
    ],
)
@pytest.mark.usefixtures("extract_command")
def test_an_argument_is_shown_as_its_flag(library: str, shown: str) -> None:
    assert with_flags(library) == shown


@pytest.mark.parametrize(
    ("words", "library", "shown"),
    [
        (("similar",), "keep it with `damaged='keep'`", "keep it with `c3dvideo extract --damaged keep`"),
        (("explain",), "keep it with `damaged='keep'`", "keep it with `--damaged keep`"),
        (("train",), "store fewer `layers=`", "store fewer `c3dvideo extract --layer`"),
        (("similar",), "store fewer `layers=`", "store fewer `--layer`"),
        (("serve",), "choose `batch_norm=False`", "choose `c3dvideo train --no-batch-norm`"),
        (("plan",), "give `metric=`", "give `c3dvideo weights publish --metric`"),
    ],
)
def test_a_flag_of_another_command_is_shown_after_its_command(words: tuple[str, ...], library: str, shown: str) -> None:
    speak_for(command(*words), get_command(app))
    assert with_flags(library) == shown
    speak_for(None)


@pytest.mark.usefixtures("extract_command")
def test_notes_and_json_name_flags(capsys: pytest.CaptureFixture[str]) -> None:
    note("choose another `out=`")
    print_json({"failures": [{"message": 'try `short="repeat_last"`', "start": float("nan")}], "n": 1})
    shown = capsys.readouterr()
    assert shown.err == "choose another `--out`\n"
    assert json.loads(shown.out, parse_constant=pytest.fail) == {
        "failures": [{"message": "try `--short repeat_last`", "start": None}],
        "n": 1,
    }


SECRET = "PASSWORDX"


@pytest.mark.parametrize(
    "words",
    [
        f"search http://user:{SECRET}@127.0.0.1:9/404.mp4 --db http://user:{SECRET}@127.0.0.1:9/db",
        f"search a --db s3://key:{SECRET}@bucket/x",
        f"predict a.mp4 --weights http://u:{SECRET}@127.0.0.1:9/w",
        f"predict a.mp4 --probe http://u:{SECRET}@127.0.0.1:9/p",
        f"weights import http://u:{SECRET}@127.0.0.1:9/w --out w",
        f"extract http://u:{SECRET}@h/a.mp4?a={SECRET} http://h/a.mp4#{SECRET} --out out",
        f"http://u:{SECRET}@127.0.0.1:9/p",
    ],
)
def test_no_message_repeats_a_password(run: Run, words: str) -> None:
    code, out, err = run(*words.split())
    assert code in (1, 2)
    assert SECRET not in out + err


def test_a_database_with_a_key_in_its_address_is_refused(run: Run) -> None:
    pytest.importorskip("lancedb")
    code, _, err = run("search", "a", "--db", f"s3://key:{SECRET}@bucket/x")
    assert code == 2 and "the s3:// address contains a key or password" in err and SECRET not in err


@pytest.mark.parametrize(
    "address",
    [
        "http://u:{}@h/a", "http://u:a@{}@h/a", "http://u:a/{}@h/a", "http://u:a#{}@h/a", "http:/u:{}@h/a",
        "rtsp://u:{}@[::1]:5/a", "http://h/a#access_token={}", "http://h/a?{}", "http://h/a;jsessionid={}?x=1",
        *(f"http://h/a?x=1&{name}={{}}&y=2" for name in ("api-key", "jwt", "pass", "session", "code", "Policy")),
    ],
)  # fmt: skip
def test_addresses_in_messages_are_shown_without_secrets(address: str) -> None:
    given = address.format(SECRET)
    for text in (given, f"no such file: {given!r}: it is missing", f"run `c3dvideo index F --db {given}`; then"):
        found = without_secrets(text)
        assert SECRET not in found and without_secrets(found) == found
    assert with_flags(f"{given!r}: it").endswith("': it")


def test_what_is_no_address_is_shown_as_it_is() -> None:
    for text in ("folder/a.mp4?x=1: it", "C:/a#b", "expected s3://BUCKET/KEY or gs://BUCKET/KEY", "https://h/a@b;"):
        assert without_secrets(text) == text
    assert without_secrets("rtsp://u:p@h:554/cam?channel=1&subtype=0") == "rtsp://h:554/cam?channel=1&subtype=0"


def test_every_argument_in_a_message_has_a_flag() -> None:
    """A message of the library that names `name=` can be said on the command line: some command takes it."""
    known = {
        name
        for each in commands(get_command(app))
        for parameter in each.params
        for name in (parameter.name, *(option.lstrip("-").replace("-", "_") for option in parameter.opts))
    }
    named = {
        (path.name, name)
        for path in SOURCE.rglob("*.py")
        for text in raised_texts(path)
        for name in re.findall(r"`([a-z]\w*)=", text)
    }
    assert set(OTHER_NAMES.values()) <= known
    unknown = {(path, name) for path, name in named if name not in known | set(OTHER_NAMES)}
    assert unknown == set()


def commands(group: Any) -> Iterator[Any]:
    for each in group.commands.values():
        yield from commands(each) if hasattr(each, "commands") else [each]


def raised_texts(path: Path) -> Iterator[str]:
    """The constant parts of every string in a module that is no docstring."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_an_error_of_the_operating_system_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr("c3dvideo.doctor.examine", fail)
    assert run("doctor") == (1, "", f"c3dvideo: {tmp_path / 'out'}: the disk is full\n")


def test_the_module_is_the_command() -> None:
    shown = [
        subprocess.run([*words, "--version"], capture_output=True, text=True, check=True).stdout
        for words in (
            [sys.executable, "-m", "c3dvideo"],
            [sys.executable, "-c", "from c3dvideo.cli import main; main()"],
        )
    ]
    assert shown[0] == shown[1]
    assert re.fullmatch(r"c3dvideo \d+\.\d+\.\d+\n", shown[0])


def test_names_that_are_not_utf8_are_printed_on_any_terminal(tmp_path: Path) -> None:
    code = (
        "import os, sys, c3dvideo.cli as cli, typer\n"
        "from c3dvideo.cli.output import print_json\n"
        "name = os.fsdecode(b'caf\\xe9')\n"
        "@cli.app.command('names')\n"
        "def names():\n    typer.echo(name); print_json({name: '\\u00e9'})\n"
        "sys.argv = ['c3dvideo', 'names']; cli.main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    first, document = done.stdout.decode().split("\n", 1)
    assert first == r"caf\udce9"
    assert {os.fsencode(name): value for name, value in json.loads(document).items()} == {b"caf\xe9": "é"}


def test_seconds_are_rounded_to_milliseconds() -> None:
    document = {"pairs": [{"a_seconds": (9.600000000000001, 0.0), "score": 0.123456, "seconds": None, "n_seconds": 3}]}
    assert rounded_seconds(document) == {
        "pairs": [{"a_seconds": [9.6, 0.0], "score": 0.123456, "seconds": None, "n_seconds": 3}]
    }


def test_a_name_with_a_line_end_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    note("not written: two\nlines\t\x1b[31m é.mp4: no clips")
    assert capsys.readouterr().err == "not written: two\\nlines\\t\\x1b[31m é.mp4: no clips\n"


@pytest.mark.parametrize("caught", [False, True])
def test_a_second_interrupt_ends_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, caught: bool) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise KeyboardInterrupt  # the second, in the clean-up after the first
        except KeyboardInterrupt:
            if caught:  # as typer does
                sys.exit(130)
            raise

    def end(code: int) -> None:
        raise SystemExit(code + 1000)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("typer.Typer.__call__", interrupted)
    monkeypatch.setattr(os, "_exit", end)
    try:
        assert run("doctor") == (1130, "", "c3dvideo: stopped; what was finished is kept\n")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, handler)
