"""What compressed weights cost: the source beside itself with the weights that the package stores, in float32.

Nothing of the package runs here but its unpacking, so this is the price of the compression alone. Whether the package
computes what it should is for the other checks, which compute with the same weights on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.decibels import parity_db
from s2search.verification.check import Check
from s2search.verification.checks.streaming import Pair, StoredSource, one_pass_of, samplers_of, streamed
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult, not_run

#: Of every output: 16 values per matrix give about 20 dB per Gaussian tensor, and 19 of a trained model's sums.
LEAST_DB = 15.0
LEAST_STREAM_DB = 25.0


@dataclass(frozen=True, kw_only=True)
class CompressionCheck(Check):
    """Every output of every function, and the velocities of a stream, survive the compression of weights.

    Weights that were trained for few steps are asked at all of them: at the last alone, from nothing but noise, they
    were never trained to answer. Others run one pass a chunk.
    """

    name: ClassVar[str] = "compression"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        if not opened.is_compressed:
            yield not_run(self.name, "weights are stored as plain numbers", required=False)
            return
        yield self._of_functions(opened)
        for own in samplers_of(opened)[:1]:
            form = opened.package.manifest.model.causal
            sampler = own if form is not None and form.schedule is not None else one_pass_of(own)
            pair, passes = Pair(opened.source, StoredSource(opened)), len(sampler.schedule)
            list(streamed(opened, pair, sampler, "compression, stream"))
            parts = {f"chunk {chunk}": value for chunk, value in enumerate(pair.chunks_db(passes))}
            each = "one pass" if passes == 1 else f"{passes} passes"
            why = f"{len(parts)} chunks of {each} each, the same latents to both"
            yield self.judge_worst(opened, parts, LEAST_STREAM_DB, of="stream", why=why)

    def _of_functions(self, opened: Opened) -> CheckResult:
        parts: dict[str, float] = {}
        for function in opened.functions():
            opened.say(f"compression of {function}")
            inputs, reference = opened.inputs(function), opened.reference(function)
            outputs = set(opened.exported.outputs(function))
            wanted, got = replace(reference, stored=None).values(inputs, outputs), reference.values(inputs, outputs)
            parts |= {f"{name} of {function}": parity_db(array, got[name]) for name, array in wanted.items()}
        why = f"the worst of {len(parts)} outputs of the source in float32, with its weights and with the package's"
        return self.judge_worst(opened, parts, LEAST_DB, of="outputs", why=why)
