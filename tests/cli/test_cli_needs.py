"""A wrong path is reported before PyTorch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

WORDS = [
    "extract nope --out x",
    "extract {folder} nope --out x",
    "predict nope",
    "similar nope nope",
    "train nope --out x",
    "dataset check nope",
    "dataset split nope --out x",
    "evaluate depth nope --out x",
    "demo --videos nope",
    "weights import nope --out x",
    "weights check nope",
]


def test_a_wrong_path_imports_no_torch(tmp_path: Path) -> None:
    """All commands in one process, which is quick because none of them imports anything heavy."""
    code = (
        "import sys\nfrom c3dvideo.cli import main\n"
        f"for words in {[words.format(folder=tmp_path).split() for words in WORDS]!r}:\n"
        "    sys.argv = ['c3dvideo', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        print(end.code, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False False"] * len(WORDS)
    assert done.stderr.splitlines() == ["c3dvideo: no such file or folder: 'nope'"] * len(WORDS)


@pytest.mark.parametrize("given", ["http://127.0.0.1:9/a.mp4", "-"])
def test_urls_and_stdin_are_not_looked_up(given: str) -> None:
    from c3dvideo.cli.needs import exists

    assert exists([given]) == [given]
