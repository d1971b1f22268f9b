"""The notebook of the examples runs from its first to its last cell."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/c3d_tour.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the messaging libraries below nbclient
@pytest.mark.filterwarnings("ignore::RuntimeWarning:zmq")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    source = str(NOTEBOOK.parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    done = nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        output.get("text") or output["data"]["text/plain"]
        for cell in done.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type in ("stream", "execute_result")
    ]
    assert "(8, ['bouncing_ball', 'waving_flag'])" in printed
    text = "\n".join(printed)
    assert "8 videos done" in text
    assert "published" in text or "as reported" in text
    assert text.count(" s: ") >= 3  # the nearest clips
