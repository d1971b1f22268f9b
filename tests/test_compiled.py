"""C++ built on first use: kept, verified before it is loaded, given up on when the compiler fails or hangs."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from c3dvideo import compiled
from c3dvideo.inference.cpu import kernels

PROGRAM = 'extern "C" int twice(int x) { return 2 * x; }\n'
LOAD = """
import sys
from pathlib import Path
from c3dvideo import compiled
found = compiled.attempt(Path(sys.argv[1]))
print(found if isinstance(found, str) else found.twice(21))
"""

needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="no C++ compiler here")
needs_shell = pytest.mark.skipif(os.name != "posix", reason="takes a shell script as a compiler, or forks")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "twice.cpp"
    path.write_text(PROGRAM)
    yield path
    compiled.attempt.cache_clear()


@pytest.fixture
def fake_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a shell script the only compiler; "$@" are its arguments, $REAL the compiler of this machine."""

    def install(script: str) -> None:
        path = tmp_path / "fake-c++"
        path.write_text(f"#!/bin/sh\nREAL={compiled.compiler()}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))

    return install


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, in which a bus error would show as a negative exit status."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


@needs_compiler
def test_a_library_is_built_once_and_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiled.load(source)
    assert library is not None
    assert library.twice(21) == 42
    assert compiled.why_missing(source) == ""
    compiled.attempt.cache_clear()
    monkeypatch.setattr(compiled, "build", lambda *_, **__: pytest.fail("built again"))
    assert isinstance(compiled.attempt(source), ctypes.CDLL)
    kept = compiled.library_path(source)
    names = {kept.with_suffix(suffix).name for suffix in (".so", ".json", ".lock")}
    assert {path.name for path in compiled.cache_folder().iterdir()} == names
    source.write_text("// another source\n")
    assert compiled.library_path(source) != kept


def test_why_there_is_none(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled.compiler() is not None:
        source.write_text("this is no C++\n")
        assert "failed: " in str(compiled.attempt(source))
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled.attempt.cache_clear()
    assert compiled.load(source) is None
    assert "it does not exist" in str(compiled.attempt(source))
    monkeypatch.setenv("C3DVIDEO_COMPILE", "0")
    compiled.attempt.cache_clear()
    assert compiled.attempt(source) == "turned off by C3DVIDEO_COMPILE=0"
    assert compiled.why_missing(source) == "turned off by C3DVIDEO_COMPILE=0"


@needs_compiler
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:1],
        lambda content: content[:4096],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    ],
)
def test_a_damaged_library_is_built_again(source: Path, damage: Callable[[bytes], bytes]) -> None:
    compiled.load(source)
    path = compiled.library_path(source)
    content = path.read_bytes()
    path.unlink()  # this process has it mapped: writing into the file would damage what it has loaded
    path.write_bytes(damage(content))
    assert not compiled.is_intact(path)
    found = run("-c", LOAD, source)
    assert (found.returncode, found.stdout, found.stderr) == (0, "42\n", "")
    assert compiled.is_intact(path)


@needs_compiler
@pytest.mark.parametrize(
    "record",
    [None, b"", b"[]", b"null", b"[" * 1000, b'{"size": 1}', b'{"size": "x", "sha256": []}', b"\xff", b" " * 5000],
)
def test_a_damaged_record_is_written_again(source: Path, record: bytes | None) -> None:
    compiled.load(source)
    path = compiled.library_path(source).with_suffix(".json")
    before = path.read_bytes()
    path.unlink()
    if record is not None:
        path.write_bytes(record)
    compiled.attempt.cache_clear()
    assert compiled.load(source) is not None
    assert json.loads(path.read_bytes()).keys() == json.loads(before).keys()


DOCTORS = """
import os, sys
from c3dvideo import doctor
from c3dvideo.cli import main

folders, sys.argv = sys.argv[1:], ["c3dvideo", "doctor", "--json"]
for folder in folders:
    child = os.fork()
    if child == 0:
        os.environ["C3DVIDEO_CACHE"] = folder
        os.dup2(os.open(f"{folder}/printed", os.O_CREAT | os.O_WRONLY), 1)
        sys.exit(main())
    print(os.waitpid(child, 0)[1])
"""


@needs_shell
def test_doctor_survives_truncated_kernels(tmp_path: Path) -> None:
    """The processes divide after the imports, of which each would take seconds."""
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    content = library.path.read_bytes()
    record = library.path.with_suffix(".json").read_bytes()
    folders = [tmp_path / f"{length}" for length in (0, 100, 4096, len(content) // 2, len(content) - 1)]
    for folder in folders:
        folder.mkdir()
        (folder / library.path.name).write_bytes(content[: int(folder.name)])
        (folder / library.path.name).with_suffix(".json").write_bytes(record)
    found = run("-c", DOCTORS, *folders, CXX="missing", PATH=str(tmp_path))
    assert found.stdout.split() == ["0"] * len(folders), found.stderr
    for folder in folders:
        engine = json.loads((folder / "printed").read_text())["engine"]
        assert engine["kernels"] == "plain PyTorch"
        assert engine["because"] == "c++ cannot be started: it does not exist"


@needs_compiler
@needs_shell
def test_processes_that_start_together_compile_once(
    source: Path, tmp_path: Path, fake_compiler: Callable[[str], None]
) -> None:
    fake_compiler(f'echo begin >> "{tmp_path}/log"; sleep 0.5; exec $REAL "$@"')
    command = [sys.executable, "-c", LOAD, str(source)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["42\n"] * 3
    assert (tmp_path / "log").read_text() == "begin\n"


@needs_compiler
def test_builders_without_a_lock_leave_a_sound_library(source: Path) -> None:
    """Where the file system has no locks, two builds may overlap: a library is then whole, or built again."""
    path = compiled.library_path(source)
    path.parent.mkdir()
    compiled.build(path, source)
    first = path.with_suffix(".json").read_bytes()
    source.write_text(PROGRAM + 'extern "C" int more(int x) { return x; }\n')
    compiled.build(path, source)  # as another compiler might have built it
    path.with_suffix(".json").write_bytes(first)  # the record of the first comes last
    assert not compiled.is_intact(path)


@needs_compiler
def test_folders_of_killed_builders_are_removed(source: Path) -> None:
    path = compiled.library_path(source)
    left = path.parent / f".{path.stem}-abc"
    left.mkdir(parents=True)
    (left / "half.so").write_bytes(b"half")
    assert compiled.load(source) is not None
    assert not left.exists()


@needs_shell
def test_a_compiler_that_hangs_is_given_up_on(
    source: Path, tmp_path: Path, fake_compiler: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the processes that it started, which also hold its output open."""
    fake_compiler(f'sleep 600 & echo $! > "{tmp_path}/child"; wait')
    monkeypatch.setattr(compiled, "COMPILE_SECONDS", 1)
    started = time.monotonic()
    with pytest.warns(RuntimeWarning, match="a slower way is taken"):
        assert compiled.load(source) is None
    assert time.monotonic() - started < 30
    reason = compiled.why_missing(source)
    assert "fake-c++ has been running for 1 s and was given up on" in reason
    assert "C3DVIDEO_COMPILE=0" in reason
    child = int((tmp_path / "child").read_text())
    while _is_running(child):
        assert time.monotonic() - started < 30
        time.sleep(0.01)
    assert [path.suffix for path in compiled.cache_folder().iterdir()] == [".lock"]


@needs_shell
def test_doctor_names_a_compiler_that_hangs(
    tmp_path: Path, fake_compiler: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_compiler("sleep 600")
    script = """
import json, warnings
from c3dvideo import compiled, doctor
compiled.COMPILE_SECONDS = 1
warnings.simplefilter("ignore")
print(json.dumps(doctor.examine()["engine"]))
"""
    found = run("-c", script, C3DVIDEO_CACHE=str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert "has been running for 1 s and was given up on" in json.loads(found.stdout)["because"]


@needs_shell
def test_a_lock_held_by_a_hanging_builder_is_given_up_on(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    path = compiled.library_path(source)
    path.parent.mkdir()
    monkeypatch.setattr(compiled, "COMPILE_SECONDS", 0.2)
    with FileLock(path.with_suffix(".lock")):
        assert compiled.load(source) is None
    assert "another process has been compiling for 0.2 s" in compiled.why_missing(source)


@needs_shell
def test_the_reason_is_the_last_line_of_the_compiler(source: Path, fake_compiler: Callable[[str], None]) -> None:
    fake_compiler("echo first; echo 'fatal: no space left' >&2; exit 1")
    assert compiled.why_missing(source).endswith("fake-c++ failed: fatal: no space left")
    compiled.attempt.cache_clear()
    fake_compiler("exit 3")
    assert compiled.why_missing(source).endswith("fake-c++ failed: exit status 3")


def test_a_cache_folder_that_cannot_be_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "file" / "cache"))
    assert compiled.load(source) is None
    assert (
        "cannot be written (a part of its path is a file, not a folder); choose another with C3DVIDEO_CACHE"
        in compiled.why_missing(source)
    )

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.TemporaryDirectory", read_only)
    compiled.attempt.cache_clear()
    assert compiled.load(source) is None
    assert "cannot be written (the file system is read-only)" in compiled.why_missing(source)


@needs_compiler
def test_an_intact_library_loads_from_a_cache_that_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.load(source)
    compiled.attempt.cache_clear()
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("wrote to the cache"))
    assert compiled.load(source) is not None


def _is_running(pid: int) -> bool:
    """Whether a process exists and has not ended; one that nobody waits for stays as a zombie."""
    with suppress(FileNotFoundError):
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()
