"""What coremltools would import on the way, and nobody here asks of it, is left alone."""

import subprocess
import sys

import pytest

from s2search.mil.library import UNASKED, hidden


def test_coremltools_comes_without_the_libraries_that_it_merely_tries_and_they_can_be_imported_afterwards() -> None:
    pytest.importorskip("sklearn")
    program = (
        "import sys; from s2search.mil.library import UNASKED, load_coremltools\n"
        "load_coremltools()\n"
        "assert not set(UNASKED) & set(sys.modules), set(UNASKED) & set(sys.modules)\n"
        "import sklearn"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True)


def test_what_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, UNASKED[0], sys)
    with hidden(*UNASKED):
        assert sys.modules[UNASKED[0]] is sys
    assert sys.modules[UNASKED[0]] is sys
