"""Run commands under faults: kill them, fill their disk, make it read-only, delete their output, turn the clock back.

python tests/faults/fault_runs.py --kills 50 --seed 1 --writes 12  # the table of docs/reliability.md
python tests/faults/fault_runs.py --only extract train --kills 2 --writes 5

After each run with a fault, the same run is started without one in the same folder. Its result must be that of a run
without any fault, and no temporary file may be left. A run that does not end well must end with one error of
c3dvideo's, which names what has happened. Prints one line of JSON per task and fault, and exits with 1 if any differs.

All imports happen once; each run is a fork of this process. It starts itself again with `faults.c` preloaded.
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ENDED_WELL, ENDED_WITH_ERROR, ENDED_BADLY = 0, 10, 11
SECONDS = 300.0  # for one run, which takes a few


@dataclass
class Outcome:
    """What came of the runs of one task with one fault. problems: every run that was not as promised, in words."""

    task: str
    fault: str
    runs: int = 0
    ended_well: int = 0
    ended_with_error: int = 0
    killed: int = 0
    problems: list[str] = field(default_factory=list)


class Runs:
    """Runs of one task in forks, in new folders, compared with a run that met no fault."""

    def __init__(self, name: str, inputs: Path, scratch: Path) -> None:
        from fault_tasks import TASKS

        self.name, self.task, self.inputs, self.scratch = name, TASKS[name], inputs, scratch
        self._n = 0
        self.whole = self.folder()
        started = time.monotonic()
        self.n_writes = 0
        code, said = self.wait(self.start(self.whole, lambda: _arm_full(self.whole, 1 << 60)))
        self.seconds = time.monotonic() - started
        if code != ENDED_WELL:
            raise SystemExit(f"{name} fails without a fault: {said}")
        self.n_writes = int(said or 0)
        self.expected = self.result(self.whole)

    def folder(self) -> Path:
        """A new, empty place for one output."""
        self._n += 1
        return self.scratch / f"{self.name}{self._n}" / "out"

    def start(self, out: Path, arm: Callable[[], None] = lambda: None) -> int:
        """Start the task in a fork; returns its process number."""
        return self._fork(out, lambda: self.task.run(self.inputs, out), arm)

    def result(self, out: Path) -> dict[str, str]:
        """What the task has left in a folder, read in a fork."""
        told = out.parent / "result.json"
        self.wait(self._fork(out, lambda: told.write_text(json.dumps(self.task.result(out)))))
        return dict(json.loads(told.read_text())) if told.exists() else {}

    def _fork(self, out: Path, work: Callable[[], object], arm: Callable[[], None] = lambda: None) -> int:
        out.parent.mkdir(parents=True, exist_ok=True)
        said = out.parent / "said.txt"
        said.unlink(missing_ok=True)
        number = os.fork()
        if number:
            return number
        _silence(out.parent / "output.txt")
        code, text = ENDED_WELL, ""
        try:
            arm()
            work()
            text = str(_shim().faults_writes())
        except BaseException as error:
            from c3dvideo.errors import C3DVideoError

            code = ENDED_WITH_ERROR if isinstance(error, C3DVideoError) else ENDED_BADLY
            text = str(error) if code == ENDED_WITH_ERROR else traceback.format_exc()
        said.write_text(text)
        self._last_words = text
        os._exit(code)

    def wait(self, number: int) -> tuple[int, str]:
        """Exit code of a run (minus the signal that ended it), and what it said."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            done, status = os.waitpid(number, os.WNOHANG)
            if done:
                said = self.scratch / f"{self.name}{self._n}" / "said.txt"
                return os.waitstatus_to_exitcode(status), said.read_text() if said.exists() else ""
            time.sleep(0.01)
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        return ENDED_BADLY, f"no end after {SECONDS:g} seconds"

    def record(self, outcome: Outcome, code: int, said: str, *, expects: tuple[int, ...], what: str) -> None:
        """Count how a faulty run has ended."""
        outcome.runs += 1
        outcome.ended_well += code == ENDED_WELL
        outcome.ended_with_error += code == ENDED_WITH_ERROR
        outcome.killed += code == -signal.SIGKILL
        if code not in expects:
            outcome.problems.append(f"{what}: ended with {code}: {said.strip()[-1500:]}")
        elif code == ENDED_WITH_ERROR and ("\n" in said.strip() or not said.strip()):
            outcome.problems.append(f"{what}: not one line: {said[:300]}")

    def check(self, outcome: Outcome, out: Path, what: str) -> None:
        """Run without a fault in the same folder, and compare."""
        code, said = self.wait(self.start(out))
        if code != ENDED_WELL:
            outcome.problems.append(f"{what}: the next run ended with {code}: {said.strip()[-1500:]}")
            return
        found = self.result(out)
        if found != self.expected:
            differing = sorted(
                key for key in found.keys() | self.expected.keys() if found.get(key) != self.expected.get(key)
            )
            outcome.problems.append(f"{what}: differs in {', '.join(differing)}")
        left = [str(path.relative_to(out)) for path in out.rglob("*") if path.suffix == ".tmp"]
        if left:
            outcome.problems.append(f"{what}: left {', '.join(left)}")
        shutil.rmtree(out.parent)


def kill(runs: Runs, dice: random.Random, n: int) -> Outcome:
    """Kill runs at random moments, one in three of their successors too."""
    outcome = Outcome(runs.name, "kill -9")
    while outcome.killed < n and outcome.runs < 3 * n:
        out = runs.folder()
        for again in (False, True):
            if again and dice.random() > 1 / 3:
                break
            moment = dice.uniform(0, runs.seconds)
            number = runs.start(out)
            time.sleep(moment)
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            code, said = runs.wait(number)
            runs.record(outcome, code, said, expects=(-signal.SIGKILL, ENDED_WELL), what=f"killed after {moment:.2f} s")
        runs.check(outcome, out, f"killed after {moment:.2f} s")
    return outcome


def full_disk(runs: Runs, n: int) -> Outcome:
    """Let every write fail in turn, or `n` of them, evenly spread."""
    outcome = Outcome(runs.name, "full disk")
    places = range(1, runs.n_writes + 1)
    for place in places if n >= len(places) else sorted({1 + i * (len(places) - 1) // max(1, n - 1) for i in range(n)}):
        out = runs.folder()
        code, said = runs.wait(runs.start(out, lambda out=out, place=place: _arm_full(out, place)))
        what = f"write {place} of {runs.n_writes}"
        runs.record(outcome, code, said, expects=(ENDED_WITH_ERROR, ENDED_WELL), what=what)
        left = [path.name for path in out.rglob("*.tmp")]
        if left:
            outcome.problems.append(f"{what}: left {', '.join(left)}")
        runs.check(outcome, out, what)
    return outcome


def read_only(runs: Runs) -> Outcome:
    """Run in a folder that cannot be written: before it exists, and when it holds half of the result."""
    outcome = Outcome(runs.name, "read-only output")
    for half in (False, True):
        out = runs.folder()
        if half:
            number = runs.start(out)
            time.sleep(runs.seconds / 2)
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            runs.wait(number)
        code, said = runs.wait(runs.start(out, lambda out=out: _shim().faults_read_only(os.fsencode(out))))
        runs.record(outcome, code, said, expects=(ENDED_WITH_ERROR,), what=f"read-only, {half=}")
        runs.check(outcome, out, f"read-only, {half=}")
    return outcome


def deleted(runs: Runs, dice: random.Random, n: int) -> Outcome:
    """Delete the whole output while a run fills it."""
    outcome = Outcome(runs.name, "output deleted")
    for _ in range(n):
        out, moment = runs.folder(), dice.uniform(0.1, 0.95) * runs.seconds
        number = runs.start(out)
        time.sleep(moment)
        shutil.rmtree(out, ignore_errors=True)
        code, said = runs.wait(number)
        what = f"deleted after {moment:.2f} s"
        runs.record(outcome, code, said, expects=(ENDED_WELL, ENDED_WITH_ERROR), what=what)
        runs.check(outcome, out, what)
    return outcome


def clock(runs: Runs) -> Outcome:
    """Let the time of day run backwards."""
    outcome = Outcome(runs.name, "clock backwards")
    out = runs.folder()
    code, said = runs.wait(runs.start(out, lambda: _shim().faults_clock()))
    runs.record(outcome, code, said, expects=(ENDED_WELL,), what="backwards")
    runs.check(outcome, out, "backwards")
    return outcome


def together(runs: Runs) -> Outcome:
    """Two runs in one folder at the same time: they share the work, or the second is refused."""
    outcome = Outcome(runs.name, "two runs at once")
    out = runs.folder()
    numbers = [runs.start(out), runs.start(out)]
    codes = []
    for number in numbers:
        code, said = runs.wait(number)
        codes.append(code)
        allowed = (ENDED_WELL,) if runs.task.shares else (ENDED_WELL, ENDED_WITH_ERROR)
        runs.record(outcome, code, said, expects=allowed, what="together")
    if ENDED_WELL not in codes:
        outcome.problems.append("neither run has ended well")
    runs.check(outcome, out, "together")
    return outcome


def all_faults(runs: Runs, dice: random.Random, *, kills: int, writes: int, deletions: int) -> Iterator[Outcome]:
    """Every fault, one after the other."""
    yield kill(runs, dice, kills)
    yield full_disk(runs, writes)
    yield read_only(runs)
    yield deleted(runs, dice, deletions)
    yield clock(runs)
    yield together(runs)


def _arm_full(out: Path, place: int) -> None:
    _shim().faults_full(os.fsencode(out), ctypes.c_long(place))


def _shim() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.faults_writes.restype = ctypes.c_long
    return library


def _silence(path: Path) -> None:
    """Send what a run prints to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _start_again(folder: Path) -> None:
    """Run this program once more with the faults preloaded; returns only in the second run."""
    library = folder / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "faults.c", "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "C3DVIDEO_FAULTS": str(folder)}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606 - this program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["extract", "train", "pretrain", "index"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--kills", type=int, default=50, help="of all tasks together")
    parser.add_argument("--writes", type=int, default=1 << 30, help="how many of the writes fail, per task")
    parser.add_argument("--deletions", type=int, default=3, help="per task")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if "C3DVIDEO_FAULTS" not in os.environ:
        _start_again(Path(tempfile.mkdtemp(prefix="c3dvideo-faults-")))
    folder = Path(os.environ["C3DVIDEO_FAULTS"])
    sys.path.insert(0, str(HERE))
    import fault_tasks
    import torch

    import c3dvideo.features.extract
    import c3dvideo.training.pretraining.pretraining_run
    import c3dvideo.training.train  # noqa: F401 - imported here, so that no run has to

    torch.set_num_threads(1)
    bad = 0
    try:
        inputs = folder / "inputs"
        maker = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(HERE)!r}); import fault_tasks, pathlib; "
                f"fault_tasks.make_inputs(pathlib.Path({str(inputs)!r}))",
            ],
            check=False,
        )
        assert maker.returncode == 0 and fault_tasks.N_VIDEOS
        for place, name in enumerate(given.only):
            kills = given.kills // len(given.only) + (place < given.kills % len(given.only))
            runs = Runs(name, inputs, folder)
            dice = random.Random(f"{given.seed} {name}")
            for outcome in all_faults(runs, dice, kills=kills, writes=given.writes, deletions=given.deletions):
                print(json.dumps(asdict(outcome)), flush=True)
                bad += bool(outcome.problems)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
