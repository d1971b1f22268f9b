"""Optional C++: source files built on first use with the machine's own compiler, then kept in the cache folder.

    library = load(Path("resize.cpp"))             # None without a compiler: callers then take a slower way
    library = load(Path("a.cpp"), Path("b.cpp"), Path("shared.h"))
    why_missing(Path("resize.cpp"))                # "turned off by C3DVIDEO_COMPILE=0", say

The size and the hash of a library are recorded beside it. A library that differs from its record is built again and
never loaded: a file that was cut short would kill the process with a bus error. `C3DVIDEO_COMPILE=0` turns all of this
off.
"""

import ctypes
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from c3dvideo.files import cache_folder, file_sha256, os_reason

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
COMPILE_SECONDS = 60  # the package's libraries take 1 to 6; waiting for another process that compiles counts too
_LONGEST_RECORD_BYTES = 1000


class BuildError(Exception):
    """A library could not be built; the message is the reason, in a few words."""


def load(*sources: Path) -> ctypes.CDLL | None:
    """The library of C++ files, built now if this machine has not built it before; None where that is not possible.

    sources: the files that are compiled, and the headers (.h) that they include.
    """
    found = attempt(*sources)
    return found if isinstance(found, ctypes.CDLL) else None


def why_missing(*sources: Path) -> str:
    """Why `load` returns None for these files, in a few words; empty when it returns a library."""
    found = attempt(*sources)
    return found if isinstance(found, str) else ""


@cache
def attempt(*sources: Path) -> ctypes.CDLL | str:
    """The library of C++ files, or why there is none."""
    if os.environ.get("C3DVIDEO_COMPILE") == "0":
        return "turned off by C3DVIDEO_COMPILE=0"
    try:
        path = library_path(*sources)
        if not is_intact(path):
            _build_once(path, *sources)
        return ctypes.CDLL(str(path))
    except BuildError as error:
        return str(error)
    except OSError as error:
        return str(error)


def is_intact(path: Path) -> bool:
    """Whether the library at `path` has the size and the hash that were recorded when it was built."""
    try:
        with _record_path(path).open("rb") as file:
            recorded = json.loads(file.read(_LONGEST_RECORD_BYTES))
        # The size first: it costs nothing, and most damage is a file that was cut short.
        return bool(recorded["size"] == path.stat().st_size and recorded["sha256"] == file_sha256(path))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def build(path: Path, *sources: Path, seconds: float = COMPILE_SECONDS) -> None:
    """Compile `sources` to `path` and record its size and hash; raises BuildError or OSError when that fails.

    A compiler that takes more than `seconds` is killed, with the processes it started.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_folder_prefix(path)) as folder:
        fresh, record = Path(folder) / path.name, Path(folder) / "record.json"
        files = [str(source) for source in sources if source.suffix != ".h"]
        _compile([compiler() or "c++", *FLAGS, "-o", str(fresh), *files], Path(folder) / "messages", seconds)
        record.write_text(json.dumps({"size": fresh.stat().st_size, "sha256": file_sha256(fresh)}), encoding="ascii")
        # Two renames cannot be one. A process that is killed between them leaves a library that differs from its
        # record, which the next process builds again.
        fresh.replace(path)
        record.replace(_record_path(path))


def compiler() -> str | None:
    """The C++ compiler that would be used."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))), None)


def library_path(*sources: Path) -> Path:
    """Where the library of these sources, these flags and this processor is kept."""
    identity = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    identity.update(" ".join((*FLAGS, platform.machine(), _processor_features())).encode())
    return cache_folder() / f"{sources[0].stem}-{identity.hexdigest()[:16]}.so"


def _build_once(path: Path, *sources: Path) -> None:
    """Build the library unless another process does so first, within COMPILE_SECONDS in all."""
    deadline = time.monotonic() + COMPILE_SECONDS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_builder(path):
            if is_intact(path):
                return
            for left in path.parent.glob(f"{_folder_prefix(path)}*"):  # by a process that was killed while it compiled
                shutil.rmtree(left, ignore_errors=True)
            build(path, *sources, seconds=deadline - time.monotonic())
    except OSError as error:
        raise BuildError(
            f"the cache folder {path.parent} cannot be written ({os_reason(error)}); choose another with C3DVIDEO_CACHE"
        ) from error


@contextmanager
def _only_builder(path: Path) -> Iterator[None]:
    """A block that one process at a time enters, so that sixteen workers that start together compile once."""
    from filelock import FileLock, Timeout  # takes longer to import than an intact library to load

    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=COMPILE_SECONDS)
    except Timeout as error:
        raise BuildError(_too_slow("another process has been compiling")) from error
    try:
        yield
    finally:
        lock.release()


def _compile(command: list[str], messages: Path, seconds: float) -> None:
    """Run a compiler; raises BuildError with the last line that it wrote to `messages` when it fails."""
    with messages.open("wb") as output:
        # Messages go to a file: a pipe would be held open by any process that outlives the compiler. The session of
        # its own makes one group of all that the compiler starts (cc1plus, as, ld, a ccache), to be killed as one.
        try:
            process = subprocess.Popen(  # noqa: S603 - the compiler found on the path, with options and files of our own
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise BuildError(f"{command[0]} cannot be started: {os_reason(error)}") from error
        try:
            status = process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired as error:
            reason = _too_slow(f"{command[0]} has been running")
            warnings.warn(f"{reason}; a slower way is taken instead", RuntimeWarning, stacklevel=2)
            raise BuildError(reason) from error
        finally:  # also on Ctrl-C, which does not reach another session
            _kill_group(process)
    if status:
        lines = messages.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise BuildError(f"{command[0]} failed: {lines[-1] if lines else f'exit status {status}'}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:  # its number may already be that of another process
        return
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _too_slow(what: str) -> str:
    return f"{what} for {COMPILE_SECONDS} s and was given up on; C3DVIDEO_COMPILE=0 skips compiling"


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _folder_prefix(path: Path) -> str:
    return f".{path.stem}-"


def _processor_features() -> str:
    """Processor features: part of the cache key, as `-march=native` compiles to other instructions elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
