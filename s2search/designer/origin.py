"""What a design rests on: the files behind it, and what nobody measured."""

from __future__ import annotations

from collections.abc import Sequence

from s2search.designer.document import DesignOrigin
from s2search.designer.found import FoundDesign
from s2search.designer.request import DesignRequest
from s2search.designer.search import Search
from s2search.registry import own_version


def origin(request: DesignRequest) -> DesignOrigin:
    """Return the files behind a design, with digests."""
    table, wish, quality = request.table, request.wish, request.quality
    return DesignOrigin(
        table=table.name,
        table_digest=table.digest,
        table_kind=table.card.provenance.kind,
        table_statement=table.card.provenance.statement,
        table_source=table.card.provenance.source,
        table_marks=table.card.marks,
        device=f"{table.card.device} ({table.card.chip})",
        preset=table.card.preset,
        compute_unit=request.offer.forms[0].compute_unit,
        latency_model=wish.latency_model.label,
        score=wish.score.label,
        score_digest=wish.score.digest,
        score_statement=wish.score.statement,
        quality=quality.label,
        quality_digest=quality.digest,
        quality_statement=quality.statement,
        s2search=own_version(),
    )


def assumptions(search: Search, designs: Sequence[FoundDesign]) -> tuple[str, ...]:
    """Return what designs rest on that nobody measured, one sentence each."""
    unknown = dict.fromkeys(what for found in designs for what in found.around.unknown)
    said = [f"not counted in memory, since the card does not say it: {what}" for what in unknown]
    grown = {found.around.decoder.name: found.around for found in designs if found.around.decoder_growth != 1}
    said += [f"the {name} is taken to grow with the pixels of a chunk: it was timed at another size" for name in grown]
    own = search.question.offer.table
    others = {found.program.table.name: found for found in designs if found.program.table is not own}
    said += [
        f"rows in {found.combination.precision} are of the table {name} ({found.program.table.digest[7:19]}), "
        f"{found.program.table.card.provenance.statement}"
        for name, found in others.items()
    ]
    estimated = sorted({found.combination.video for found in designs if "estimated" in found.provenance})
    if estimated:
        model = search.question.wish.latency_model.label
        said.append(f"latencies at {', '.join(estimated)} are foretold by {model}, not measured")
    if any(found.combination.residency == "in_turn" for found in designs):
        said.append("networks that take turns are loaded anew for every chunk")
    return (*said, *search.question.offer.table.card.assumptions)
