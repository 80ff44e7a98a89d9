"""Where the tables lie that come with s2search: in the checkout, or beside this file once installed from a wheel."""

from pathlib import Path

_INSTALLED = Path(__file__).parent / "data"

#: Holds one folder per table, and their JSON schema.
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "latency_tables"
