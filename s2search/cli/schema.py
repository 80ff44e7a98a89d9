"""`s2search schema`: what stands in the files and in every `--json`."""

from __future__ import annotations

from typing import Annotated

import typer

from s2search.cli.options import say, say_json


def schema(
    name: Annotated[str | None, typer.Argument(help="A document, such as plan; without one, all are listed.")] = None,
) -> int:
    """Print the JSON schema of a document, or list the documents."""
    from s2search.api.schema import schema as run
    from s2search.document import as_json

    found = run(name)
    if name is None:
        from s2search.reporting.terminal import pairs_text

        say(pairs_text({f"s2search.{known}/1": told for known, told in found.items()}))
    else:
        say_json(as_json(found))
    return 0
