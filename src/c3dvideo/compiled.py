"""Optional C++: source files built on first use with the machine's own compiler, then kept in the cache folder.

    library = load(Path("resize.cpp"))             # None without a compiler; whoever asks has another way then
    library = load(Path("a.cpp"), Path("b.cpp"), Path("shared.h"))

`C3DVIDEO_COMPILE=0` turns all of this off.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from c3dvideo.files import cache_folder

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")


def load(*sources: Path) -> ctypes.CDLL | None:
    """The library of C++ files, built now if this machine has not built it before; None where that is not possible.

    sources: the files that are compiled, and the headers (.h) that they include.
    """
    found = attempt(*sources)
    return found if isinstance(found, ctypes.CDLL) else None


@cache
def attempt(*sources: Path) -> ctypes.CDLL | str:
    """The library of C++ files, or why there is none."""
    if os.environ.get("C3DVIDEO_COMPILE") == "0":
        return "turned off by C3DVIDEO_COMPILE=0"
    try:
        path = library_path(*sources)
        if not path.exists():
            build(path, *sources)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]} failed: {error.stderr.decode(errors='replace').strip().splitlines()[-1:]}"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


def build(path: Path, *sources: Path) -> None:
    """Compile `sources` to `path`; raises OSError or SubprocessError when there is no working compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        files = [str(source) for source in sources if source.suffix != ".h"]
        command = [compiler() or "c++", *FLAGS, "-o", str(fresh), *files]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        fresh.replace(path)


def compiler() -> str | None:
    """The C++ compiler that would be used."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))), None)


def library_path(*sources: Path) -> Path:
    """Where the library of these sources, these flags and this processor is kept."""
    identity = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    identity.update(" ".join((*FLAGS, platform.machine(), _processor_features())).encode())
    return cache_folder() / f"{sources[0].stem}-{identity.hexdigest()[:16]}.so"


def _processor_features() -> str:
    """What tells machines apart on which `-march=native` means different instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
