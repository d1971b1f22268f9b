"""A short, seeded form of `fault_runs.py`: faults done to whole extractions, and the runs that follow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "fault_runs.py"


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_after_every_fault_the_next_run_gives_what_an_untouched_one_gives() -> None:
    given = ["--only", "extract", "--kills", "2", "--writes", "4", "--deletions", "1", "--seed", "3"]
    done = subprocess.run([sys.executable, SCRIPT, *given], capture_output=True, text=True, timeout=280, check=False)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["problems"] for outcome in outcomes] == [[]] * 6, done.stderr
    by_fault = {outcome["fault"]: outcome for outcome in outcomes}
    assert by_fault["kill -9"]["killed"] >= 2
    assert by_fault["full disk"]["ended_with_error"] == 4
    assert by_fault["read-only output"]["ended_with_error"] == 2
    assert by_fault["clock backwards"]["ended_well"] == 1
    assert by_fault["two runs at once"]["ended_well"] == 2
    assert done.returncode == 0
