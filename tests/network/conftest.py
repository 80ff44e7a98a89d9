import pytest


@pytest.fixture(autouse=True, scope="session")
def _alone(one_thread):
    """Every test here."""
