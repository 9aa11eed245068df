"""The example notebook, run from its first cell to its last by a real kernel."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The code cells with their outputs."""
    notebook = nbformat.read(ROOT / "examples" / "notebook" / "sensors.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    folder = tmp_path_factory.mktemp("notebook")
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder)})
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells, source):
    """The last value that the cell with a text shows."""
    (outputs,) = [cell.outputs for cell in cells if source in cell.source]
    return [out for out in outputs if out.output_type == "execute_result"][-1]["data"]["text/plain"]


def test_objects_of_the_notebook_learn_a_table_and_a_second_run_learns_nothing(cells):
    assert shown(cells, "def learn():") == "24000"
    assert shown(cells, "# all of it is done") == "0"
    table = shown(cells, "pd.DataFrame({name:")
    assert table.count("2000.0") == 12


def test_progress_is_shown_in_the_cell(cells):
    (outputs,) = [cell.outputs for cell in cells if "def learn():" in cell.source]
    shown = [str(out.get("data", {}).get("text/plain")) for out in outputs]
    assert any(text.startswith("learn: ") and text.endswith(" done") for text in shown)


def test_functions_of_the_notebook_run_on_the_hosts(cells):
    assert shown(cells, "def pi(") == "3.1"
