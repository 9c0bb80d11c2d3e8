"""What `make test` leaves out and `make test-all` runs, where nothing may be absent."""

import os
import re

import pytest

# Unit tests compute: nothing that an earlier run of them left behind may answer in their place.
os.environ["ANNEAL_STORE"] = "off"  # before anything is imported; processes they start inherit it
os.environ.pop("ANNEAL_STORE_FRESH", None)
os.environ.pop("ANNEAL_STORE_LIMIT", None)

EXTRA = ("wheel", "browser", "processes", "faults")
# A reason that tells of something absent. Others (another machine's bits, a case that is tested
# elsewhere) skip everywhere; of the tests marked with one of the above none may be skipped.
ABSENT = re.compile(r"not installed|could not import|not found|missing|not a git checkout")
# What may be absent in `make test-all` too: this project does not install it.
PERMITTED = ("torch is not installed", "no package index can be reached")


def pytest_addoption(parser):
    parser.addoption(
        "--everything",
        action="store_true",
        help=f"run {', '.join(EXTRA)} too; a test that is skipped for what is absent fails",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--everything") or config.getoption("-m"):
        return
    extra = [item for item in items if any(map(item.get_closest_marker, EXTRA))]
    if extra:
        config.hook.pytest_deselected(items=extra)
        items[:] = [item for item in items if item not in extra]


def pytest_terminal_summary(terminalreporter):
    """What tests have recorded to be told, such as how large the wheel is."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.config.getoption("--everything") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(call.excinfo.value)
        matters = ABSENT.search(reason) or any(map(item.get_closest_marker, EXTRA))
        if matters and not any(words in reason for words in PERMITTED):
            report.outcome, report.longrepr = "failed", f"Absent: {reason}"
    return report
