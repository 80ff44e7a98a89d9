"""Whether errors grow as a stream goes on: chunk after chunk, each with the state that the chunks before it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from s2search.decibels import parity_db
from s2search.errors import CheckError, S2SearchError
from s2search.exporters.host import Host
from s2search.exporters.streamed import StreamedPackage
from s2search.mil.evaluator import Mode
from s2search.network.network import LayerStates, S2DiT
from s2search.streaming.chunk_sampler import ChunkSampler
from s2search.streaming.sampler_of import needs, samplers_to_check, told
from s2search.streaming.state import StreamState
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: After the last chunk and at every chunk before it.
LEAST_DB = {"float32": 40.0, "float16": 40.0, "rounded inputs": 25.0}


@dataclass(frozen=True, kw_only=True)
class StreamingCheck(Check):
    """Velocities of every chunk are near the source's, as it was trained to stream; else for both commit policies.

    Teacher forcing: source and package read and commit the same latents, which the source made, each into its own
    state. What is left is the error of the package and of its state, and no divergence of two streams. How far two free
    streams from the same noise come apart is a result of its own, and not required. Where weights are compressed, the
    source computes with the package's: what they cost is a figure of its own (`compression`).

    Where something stands in for the runtime, all of that is in its own arithmetic. Its others run one pass a chunk,
    and are not required.
    """

    name: ClassVar[str] = "stream"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        package, mode = StreamedPackage(opened.package, opened.runtime), opened.mode
        samplers = samplers_of(opened)
        for sampler in samplers:
            pair, policy = Pair(teacher_of(opened), package), sampler.commit
            list(streamed(opened, pair, sampler, f"stream, {policy}"))
            yield self._result(opened, policy, pair.chunks_db(len(sampler.schedule)), mode, required=True)
        if samplers:
            for other in opened.emulation.others if opened.emulation else ():
                yield self._result(opened, other, one_pass_db(opened, other), other, required=False)
            free = streamed(opened, package, samplers[0], "free stream")
            wanted = streamed(opened, teacher_of(opened), samplers[0], "free stream")
            parts = [parity_db(a.numpy(), b.numpy()) for a, b in zip(wanted, free, strict=True)]
            yield self._result(opened, "free_running", parts, mode, required=False)

    def _result(self, opened: Opened, of: str, chunks_db: list[float], mode: str, *, required: bool) -> CheckResult:
        parts = {f"chunk {chunk}": value for chunk, value in enumerate(chunks_db)}
        how = "each with its own latents, from the same noise" if of == "free_running" else "the same latents to both"
        form = opened.package.manifest.model.causal
        trained = "" if form is None else f"{told(form)}; "
        why = f"{trained}{len(parts)} chunks, {how}; {chunks_db[-1]:.1f} dB in the last"
        result = self.judge_worst(opened, parts, opened.least_db(LEAST_DB), of=of, why=why)
        if result.status == "failed" and result.threshold is not None:
            first = next(chunk for chunk, value in parts.items() if not value >= result.threshold)
            result = replace(result, where=f"{first} is the first below")
        return replace(result, required=required, mode=mode)


def samplers_of(opened: Opened) -> tuple[ChunkSampler, ...]:
    """Return what the model may be streamed with, and the package has the functions for."""
    functions = set(opened.functions())
    every = samplers_to_check(opened.package.manifest.model)
    return tuple(one for one in every if {"denoise", needs(one)} <= functions)


def one_pass_of(sampler: ChunkSampler) -> ChunkSampler:
    """Return a sampler of the last step alone, with the same commit."""
    return replace(sampler, schedule=sampler.schedule[-1:], as_trained=False)


def one_pass_db(opened: Opened, mode: Mode) -> list[float]:
    """Return the parity of every chunk of a stream of one pass a chunk, in an arithmetic of what runs it here."""
    pair = Pair(teacher_of(opened), StreamedPackage(opened.package, opened.inspector.in_mode(opened, mode)))
    list(streamed(opened, pair, one_pass_of(samplers_of(opened)[0]), f"{mode} stream"))
    return pair.chunks_db(1)


class StoredSource(StreamedPackage):
    """The source with the numbers that a package stores, as a model that streams: nothing is rounded between calls."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened.package, opened.runtime)
        self._opened = opened
        if self.host is not None:
            self.host = Host(self.host.form, kind="float32")

    @override
    def _call(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        reference = self._opened.reference(function)  # type: ignore[arg-type]
        return reference.values(inputs, set(reference.steps.outputs(reference.function)))


def teacher_of(opened: Opened) -> S2DiT | StoredSource:
    """Return what a stream is held against: the source; with the package's weights where these are compressed."""
    return StoredSource(opened) if opened.is_compressed else opened.source


class Pair:
    """Two models as one, for a sampler: both are asked the same, and the teacher's answer goes on.

    A state is the pair of their states.
    """

    def __init__(self, teacher: S2DiT | StoredSource, pupil: StreamedPackage) -> None:
        self.config, self._teacher, self._pupil = teacher.config, teacher, pupil
        self._velocities: list[tuple[Tensor, Tensor]] = []

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the teacher's: latents are float32, in the processor's memory."""
        return self._teacher.parameters()

    def weights_digest(self) -> str:
        """Return the model's."""
        return self._teacher.weights_digest()

    def initial_state(self, *sizes: Any, **options: Any) -> LayerStates:
        """Return both empty states."""
        return (self._teacher.initial_state(*sizes, **options), self._pupil.initial_state(*sizes, **options))

    def __call__(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> Tensor:
        """Return the teacher's velocity, and keep both."""
        velocity_BCTYX: Tensor = self._teacher(latents_BCTYX, s_BT, text_BSE, state[0])
        self._velocities.append((velocity_BCTYX, self._pupil(latents_BCTYX, s_BT, text_BSE, state[1])))
        return velocity_BCTYX

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return both states with the same chunk added."""
        inputs = (latents_BCTYX, s_BT, text_BSE)
        return (self._teacher.commit(*inputs, state[0]), self._pupil.commit(*inputs, state[1]))

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return the teacher's velocity, keep both, and return both states with the same chunk added."""
        wanted_BCTYX, left = self._teacher.advance(latents_BCTYX, s_BT, text_BSE, state[0])
        got_BCTYX, right = self._pupil.advance(latents_BCTYX, s_BT, text_BSE, state[1])
        self._velocities.append((wanted_BCTYX, got_BCTYX))
        return wanted_BCTYX, (left, right)

    def chunks_db(self, passes: int) -> list[float]:
        """Return the signal-to-noise ratio of all velocities of every chunk, each of so many passes."""
        chunks = [self._velocities[i : i + passes] for i in range(0, len(self._velocities), passes)]
        sides = [[torch.stack(side).numpy() for side in zip(*chunk, strict=True)] for chunk in chunks]
        return [parity_db(wanted, got) for wanted, got in sides]


def streamed(opened: Opened, model: Any, sampler: ChunkSampler, label: str) -> Iterator[Tensor]:
    """Yield clean latents of chunk after chunk, from noise that depends on the seed alone."""
    manifest, options, text_BSE = opened.package.manifest, opened.options, opened.text_BSE
    state = StreamState.start(model, manifest.grid, seed=options.seed, window=manifest.window)
    for chunk in range(options.chunks):
        opened.say(f"{label}, chunk {chunk + 1} of {options.chunks}")
        try:
            latents_BCTYX, state = sampler.next_chunk(model, text_BSE, state, frames=manifest.chunk_frames)
        except S2SearchError:
            raise
        except Exception as error:  # errors of runtimes share no base
            raise CheckError(f"chunk {chunk} of the stream fails: {error}", path=f"chunk {chunk}") from error
        yield latents_BCTYX
