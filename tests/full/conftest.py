"""One hub for all tests of this folder, and the table of what the notebooks took at the end."""

import pytest

from tests.full import hub, repositories


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Of a hub with all repositories."""
    root = tmp_path_factory.mktemp("hub")
    repositories.make(root)
    with hub.serve(root) as where:
        yield where


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [value for report in reports for name, value in report.user_properties if name == "notebook"]
    if lines:
        terminalreporter.section("notebooks in profile full")
        terminalreporter.write("\n".join(sorted(lines)) + "\n")
