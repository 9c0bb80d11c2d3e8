"""Two ways to check the notebooks by nbval's own comparison.

``pytest --nbval notebooks`` runs them again, cell by cell. ``pytest notebooks --executed DIR``
compares them with copies that papermill has already executed, without running anything twice.
"""

import functools
from pathlib import Path

from tools import gates, notebooks

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams


def pytest_addoption(parser):
    """The option ``--executed``."""
    parser.addoption("--executed", default=None, help="directory with executed copies")


def pytest_configure(config):
    """Either way, not both: each cell would be collected twice."""
    if config.getoption("--executed") and (config.option.nbval or config.option.nbval_lax):
        raise pytest.UsageError("--executed compares without running: leave --nbval out.")


def _sources(notebook) -> list:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


class ReplayCell(IPyNbCell):
    """A cell compared with its executed copy."""

    def runtest(self):
        """Fail where the fresh outputs differ from the committed ones, by nbval's rules."""
        if self.options["skip"]:
            pytest.skip()
        fresh = self.parent.fresh[self.cell_num]
        if self.cell.execution_count is None or fresh.execution_count is None:
            self.raise_cell_error("The cell was never run")
        for output in fresh.outputs:
            if output.output_type == "error" and not self.options["check_exception"]:
                self.raise_cell_error("The cell raised", "\n".join(output.traceback))
        if self.options["check"] and not self.compare_outputs(
            coalesce_streams(fresh.outputs), coalesce_streams(self.cell.outputs)
        ):
            self.raise_cell_error("Outputs differ", "\n".join(self.comparison_traceback))


class ReplayFile(IPyNbFile):
    """A committed notebook beside its executed copy; no kernel is started."""

    def setup(self):
        """No kernel; the patterns of ``--nbval-sanitize-with`` hold here too."""
        self.setup_sanitize_files()

    def teardown(self):
        """Nothing to stop."""

    def collect(self):
        """The same cells as nbval collects, or one failure if there is nothing to compare with."""
        cells = list(super().collect())  # reads the committed notebook into self.nb
        problem = self._find_copy()
        if problem:
            yield Sentences.from_parent(self, name="copy", find=lambda: [problem])
            return
        for item in cells:
            yield ReplayCell.from_parent(
                self, name=item.name, cell_num=item.cell_num, cell=item.cell, options=item.options
            )

    def _find_copy(self) -> str:
        copy = Path(self.config.getoption("--executed")) / self.path.name
        if not copy.exists():
            return f"{copy.name} was not executed: run `make run-all` first."
        executed = notebooks.normalise(notebooks.read(copy))
        if _sources(executed) != _sources(self.nb):
            return f"{copy.name}: the executed copy has other sources: run `make run-all` first."
        self.fresh = [cell for cell in executed.cells if cell.cell_type == "code"]
        return ""


class Sentences(pytest.Item):
    """Fails with the sentences that ``find()`` returns, and passes if there are none."""

    def __init__(self, *, find, **options):
        super().__init__(**options)
        self.find = find

    def runtest(self):
        """Fail with everything that was found at once."""
        found = self.find()
        if found:
            pytest.fail("\n".join(found), pytrace=False)

    def reportinfo(self):
        """Where the test stands."""
        return self.path, None, f"{self.name}: {self.path.name}"


class GateFile(pytest.File):
    """A committed notebook to be held against the gates."""

    def collect(self):
        """One item."""
        # The run that made the copies has written their figures, too.
        copy = Path(self.config.getoption("--executed")) / self.path.name
        find = functools.partial(gates.problems_of, self.path, copy)
        yield Sentences.from_parent(self, name="gates", find=find)


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
