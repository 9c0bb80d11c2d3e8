"""Two ways to check the notebooks by nbval's own comparison.

``pytest --nbval notebooks`` runs them again, cell by cell. ``pytest notebooks --executed DIR``
compares them with copies that papermill has already executed, without running anything twice.
"""

from pathlib import Path

from tools import notebooks

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams


def pytest_addoption(parser):
    """The option ``--executed``."""
    parser.addoption("--executed", default=None, help="directory with executed copies")


def _sources(notebook) -> list:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


class ReplayCell(IPyNbCell):
    """A cell compared with its executed copy."""

    def runtest(self):
        """Fail where the fresh outputs differ from the committed ones, by nbval's rules."""
        fresh = self.parent.fresh[self.cell_num]
        if self.cell.execution_count is None or fresh.execution_count is None:
            self.raise_cell_error("The cell was never run")
        for output in fresh.outputs:
            if output.output_type == "error":
                self.raise_cell_error("The cell raised", "\n".join(output.traceback))
        if self.options["check"] and not self.compare_outputs(
            coalesce_streams(fresh.outputs), coalesce_streams(self.cell.outputs)
        ):
            self.raise_cell_error("Outputs differ", "\n".join(self.comparison_traceback))


class ReplayFile(IPyNbFile):
    """A committed notebook beside its executed copy; no kernel is started."""

    def setup(self):
        """Read the executed copy; its sources must be the committed ones."""
        self.setup_sanitize_files()
        copy = Path(self.config.getoption("--executed")) / self.path.name
        if not copy.exists():
            pytest.fail(f"{copy.name} was not executed: run `make run-all` first.", pytrace=False)
        executed = notebooks.normalise(notebooks.read(copy))
        committed = nbformat.read(self.path, as_version=4)
        if _sources(executed) != _sources(committed):
            pytest.fail(f"{self.path.name}: the executed copy has other sources.", pytrace=False)
        self.fresh = [cell for cell in executed.cells if cell.cell_type == "code"]

    def teardown(self):
        """Nothing to stop."""

    def collect(self):
        """The same cells as nbval collects, replayed instead of run."""
        for item in super().collect():
            yield ReplayCell.from_parent(
                self, name=item.name, cell_num=item.cell_num, cell=item.cell, options=item.options
            )


class GateItem(pytest.Item):
    """The gates of one committed notebook."""

    def runtest(self):
        """Fail with every sentence that the gates have to say."""
        found = notebooks.problems_of(self.path)
        if found:
            raise notebooks.Failed("\n".join(found))

    def repr_failure(self, excinfo):
        """Sentences, not a traceback."""
        return str(excinfo.value)

    def reportinfo(self):
        """Where the test stands."""
        return self.path, None, f"gates: {self.path.name}"


class GateFile(pytest.File):
    """A committed notebook to be held against the gates."""

    def collect(self):
        """One item."""
        yield GateItem.from_parent(self, name="gates")


def _to_replay(file_path, parent) -> bool:
    return bool(parent.config.getoption("--executed")) and file_path.suffix == ".ipynb"


@pytest.hookimpl(specname="pytest_collect_file")
def pytest_collect_gates(file_path, parent):
    """The gates, when ``--executed`` is given; pytest takes one collector from each hook."""
    return GateFile.from_parent(parent, path=file_path) if _to_replay(file_path, parent) else None


@pytest.hookimpl(specname="pytest_collect_file")
def pytest_collect_replay(file_path, parent):
    """The comparison with the executed copies, when ``--executed`` is given."""
    return ReplayFile.from_parent(parent, path=file_path) if _to_replay(file_path, parent) else None
