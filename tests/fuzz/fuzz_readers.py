"""Damage every kind of foreign file in seeded ways and count what is not one clear error.

python tests/fuzz/fuzz_readers.py --inputs 200 --seed 1          # 200 damaged files of every kind
python tests/fuzz/fuzz_readers.py --seconds 3600                 # for an hour
python tests/fuzz/fuzz_readers.py --only "probe:17" --seed 1     # one of them again, with its traceback

Each file is read in a child process. What is counted against the product: an exception that is no C3DVideoError
(traceback), a process that dies (crash), a file that takes longer than `--limit` seconds (hang) or more than
`--memory` MiB beyond what the process had before (memory), and an error text of several lines (lines). The exit code is
1 when there is any. Input `n` of a kind depends on the seed, the kind and n only.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from kinds import Kind, kinds, made
from mutations import mutated

from c3dvideo.errors import C3DVideoError

BATCH = 25
ADDRESS_SPACE = 16 << 30  # a runaway allocation ends as MemoryError in the child, not as a dead machine
BAD = ("traceback", "crash", "hang", "memory", "lines")


def main() -> int:
    """Run as the command line says; returns the exit code."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        prepared = [(kind, Path(folder, str(n))) for n, kind in enumerate(kinds()) if _is_chosen(kind, options)]
        goods = {kind.name: made(kind, where) for kind, where in prepared}
        if ":" in options.only:
            return _replay(prepared, goods, options)
        counts = _run(prepared, goods, options)
    _report(counts, options)
    return int(any(counts[0][bad] for bad in BAD))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=50, help="Damaged files of every kind.")
    parser.add_argument("--seconds", type=float, default=0.0, help="Go on this long instead, whatever --inputs says.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed.")
    parser.add_argument("--limit", type=float, default=60.0, help="Seconds after which a file counts as a hang.")
    parser.add_argument("--memory", type=float, default=700.0, help="MiB that reading one file may take.")
    parser.add_argument(
        "--only", default="", help="Kinds whose name matches this regular expression, or KIND:NUMBER for one input."
    )
    parser.add_argument("--fast", action="store_true", help="Leave out weights and videos.")
    parser.add_argument("--json", action="store_true", help="Print the counts as JSON.")
    return parser.parse_args()


def _is_chosen(kind: Kind, options: argparse.Namespace) -> bool:
    name = options.only.rpartition(":")[0]
    if name:
        return kind.name == name
    return re.search(options.only, kind.name) is not None and not (options.fast and kind.slow)


def _damaged(kind: Kind, good: bytes, seed: int, number: int) -> bytes:
    return mutated(good, random.Random(f"{seed}:{kind.name}:{number}"))


def _run(
    prepared: list[tuple[Kind, Path]], goods: dict[str, bytes], options: argparse.Namespace
) -> tuple[Counter[str], Counter[str], dict[str, str]]:
    """Outcomes by name, bad ones by what went wrong where, and an example of each."""
    outcomes: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    examples: dict[str, str] = {}
    deadline = time.monotonic() + options.seconds
    start = 0
    while start < options.inputs if not options.seconds else time.monotonic() < deadline:
        end = start + BATCH if options.seconds else min(start + BATCH, options.inputs)
        for kind, folder in prepared:
            number = start
            while number < end:
                results = _in_child(kind, folder, goods[kind.name], range(number, end), options)
                for outcome, where in results:
                    outcomes[outcome] += 1
                    if outcome in BAD:
                        problems[f"{outcome}: {kind.name}: {where}"] += 1
                        examples.setdefault(f"{outcome}: {kind.name}: {where}", f"{kind.name}:{number}")
                    number += 1
            if options.seconds and time.monotonic() > deadline:
                break
        start = end
    return outcomes, problems, examples


def _in_child(
    kind: Kind, folder: Path, good: bytes, numbers: range, options: argparse.Namespace
) -> list[tuple[str, str]]:
    """The outcome of each input, up to and including the first that hangs or kills the child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            _read_all(kind, folder, good, numbers, options, pipe)
        os._exit(0)
    os.close(writing)
    results: list[tuple[str, str]] = []
    with os.fdopen(reading) as pipe:
        while len(results) < len(numbers):
            ready, _, _ = select.select([pipe], [], [], options.limit)
            line = pipe.readline() if ready else ""
            if line:
                results.append(tuple(json.loads(line)))
                continue
            if not ready:
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            results.append(("hang", "") if not ready else ("crash", _ending(status)))
            return results
    os.waitpid(child, 0)
    return results


def _ending(status: int) -> str:
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {status >> 8}"


def _read_all(kind: Kind, folder: Path, good: bytes, numbers: range, options: argparse.Namespace, pipe: Any) -> None:
    """Read every input and write its outcome; the last thing that a child does."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryFile() as printed:  # libraries print tracebacks that no one can catch
        os.dup2(printed.fileno(), 2)
        for number in numbers:
            with tempfile.TemporaryDirectory(dir=folder.parent) as case:
                here = Path(case, "case")
                shutil.copytree(folder, here)
                (here / kind.mutate).write_bytes(_damaged(kind, good, options.seed, number))
                printed.truncate(0)
                outcome, where = _outcome(kind, here, options.memory)
                if b"Traceback (most recent call last)" in os.pread(printed.fileno(), 1 << 20, 0):
                    outcome, where = "traceback", f"printed, then {outcome}"
            pipe.write(json.dumps([outcome, where]) + "\n")
            pipe.flush()


def _outcome(kind: Kind, folder: Path, memory: float) -> tuple[str, str]:
    before = _resident(reset=True)
    try:
        kind.read(folder)
        outcome, where = "accepted", ""
    except C3DVideoError as error:
        several = "\n" in str(error).strip()
        outcome, where = ("lines", type(error).__name__) if several else ("refused", "")
    except Exception as error:
        outcome, where = "traceback", f"{type(error).__name__} in {_our_frame(error)}"
    grown = _resident() - before
    return ("memory", f"{grown:.0f} MiB") if grown > memory else (outcome, where)


def _our_frame(error: BaseException) -> str:
    """The innermost function of the product in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "c3dvideo" in Path(frame.filename).parts]
    return f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "elsewhere"


def _resident(*, reset: bool = False) -> float:
    """MiB of memory: the present amount after a reset, else the largest since."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    wanted = "VmRSS:" if reset else "VmHWM:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(wanted)).split()[1]) / 1024


def _replay(prepared: list[tuple[Kind, Path]], goods: dict[str, bytes], options: argparse.Namespace) -> int:
    """Read one input again in this process; its error is shown whole."""
    kind, folder = next((kind, folder) for kind, folder in prepared if kind.name == options.only.rpartition(":")[0])
    number = int(options.only.rpartition(":")[2])
    content = _damaged(kind, goods[kind.name], options.seed, number)
    (folder / kind.mutate).write_bytes(content)
    print(f"{kind.mutate}: {len(content)} bytes, {content[:300]!r}")
    print(kind.read(folder))
    return 0


def _report(counts: tuple[Counter[str], Counter[str], dict[str, str]], options: argparse.Namespace) -> None:
    outcomes, problems, examples = counts
    if options.json:
        print(json.dumps({"outcomes": outcomes, "problems": problems, "examples": examples}, indent=1))
        return
    print(f"{sum(outcomes.values())} files: " + ", ".join(f"{n} {name}" for name, n in outcomes.most_common()))
    for problem, n in problems.most_common():
        print(f"{n:6d}  {problem}   (--only {examples[problem]!r} --seed {options.seed})")


if __name__ == "__main__":
    sys.exit(main())
