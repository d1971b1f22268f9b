"""A short run of the mutation script; run it by hand for an hour with --seconds 3600."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("fuzz_readers.py")


def run(*options: str) -> dict[str, dict[str, int]]:
    words = [sys.executable, str(SCRIPT), "--json", *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    counts: dict[str, dict[str, int]] = json.loads(done.stdout)
    assert (done.returncode, counts["problems"]) == (0, {}), done.stdout
    return counts


def test_damaged_files_are_read_or_refused_with_one_line() -> None:
    outcomes = run("--inputs", "3", "--seed", "7")["outcomes"]
    assert set(outcomes) == {"accepted", "refused"}
    assert outcomes["refused"] > 80
