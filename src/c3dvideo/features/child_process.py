"""A Python process that runs one function of this package, and the connection to it.

    child = ChildProcess("c3dvideo.features.decoder_process:serve", slots.descriptor)
    child.send(Decode(source))
    child.connection.recv()

The function gets the numbers of two open files: its end of the connection, and the one that is passed on. It must end
when the connection is closed.

Not multiprocessing.Process, which runs the main module of the user again in every process: that would need the guard
`if __name__ == "__main__"` in every script, and import there whatever the script imports, such as torch.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.spawn import get_executable
from typing import Any

_PR_SET_PDEATHSIG = 1
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import {function}; {function}({ours}, {passed_on})"


class ChildProcess:
    """One started process. environment: variables to set in it."""

    def __init__(self, function: str, descriptor: int, *, environment: Mapping[str, str] | None = None) -> None:
        module, _, name = function.partition(":")
        ours, theirs = socket.socketpair()
        with theirs:
            program = _PROGRAM.format(
                path=sys.path, module=module, function=name, ours=theirs.fileno(), passed_on=descriptor
            )
            self._process = subprocess.Popen(  # noqa: S603 - this Python, with a program of our own
                [os.fsdecode(get_executable()), "-c", program],
                pass_fds=(theirs.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # it belongs to the results of the main process
                env={**os.environ, **(environment or {})},
                # Ctrl-C in a terminal goes to a whole group. It is for the main process, which then ends this one.
                process_group=0,
            )
        self.connection = Connection(ours.detach())
        self.pid = self._process.pid

    def send(self, message: Any) -> None:
        """Send a message, if there is still somebody to read it; reading from the connection will show that."""
        with suppress(OSError):
            self.connection.send(message)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def end(self, seconds: float) -> int | None:
        """Close the connection and wait for the exit code; after `seconds`, kill the process and return None."""
        self.connection.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            # A process that waits for a disk that does not answer survives even that, and is left to the system.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
            return None


def signal_name(code: int) -> str:
    """The name of the signal that ended a process with this exit code: "SIGKILL" for -9."""
    return signal.Signals(-code).name


def end_with_parent() -> None:
    """On Linux, have the system end this process with the thread that started it, even while a library hangs.

    Elsewhere only the end of the connection shows that nobody needs this process any more.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(n_bytes: int) -> None:
    """On Linux, let allocations beyond `n_bytes` fail: one video then fails, and not the machine."""
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes if most < 0 else min(n_bytes, most), most))
