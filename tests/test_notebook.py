"""The notebook of the documentation runs, and is committed without outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "digits.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
def test_it_trains_a_classifier(notebook, tmp_path):
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (accuracy,) = (
        float(cell.outputs[0].data["text/plain"])
        for cell in notebook.cells
        if "accuracy" in cell.metadata.get("tags", ())
    )
    assert 0.85 < accuracy <= 1
    html = [out.data for cell in notebook.cells for out in cell.get("outputs", ()) if "data" in out]
    assert any('alt="learning curves"' in data.get("text/html", "") for data in html)
    assert any("image/png" in data for data in html)
