"""A step's functions in the form of `packed.py`, made by several packages one after the other.

As one they take and return what those of a single package do, and compute the same: where a chain is cut, a tensor is
padded, handed over and trimmed. They are traced as one too, and every link's program is a part of that graph: so values
bear the same names on both sides of `verify`, and what is traced is traced once.

Axes: D channels  S tokens  M modulation (6 D)  C R X: see `packed.py`  F frequencies  E W text channels and tokens
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from typing_extensions import override

from s2search.exporters.chain import EMBEDDING, MODULATION, Course, Span, hidden
from s2search.exporters.coreml.channels_first import PASSES
from s2search.exporters.coreml.packed import PackedNetwork, PackedSteps, Uncut
from s2search.exporters.coreml.packed_state import PackedState, stacked, trimmed, widened
from s2search.exporters.functions import program_between, program_of
from s2search.exporters.host import HostForm
from s2search.exporters.past import FUNCTIONS, FunctionName, StepShape, Tensors
from s2search.exporters.step import VELOCITY
from s2search.network.network import S2DiT
from s2search.network.walk import Route


@dataclass(frozen=True)
class PackedLink:
    """One package of a chain; see `Link`.

    Attributes:
        layers: The first in it, and the one after the last.
        course: Of the model.
        form: What a host must know of these layers.
        whole: The same of all layers.
    """

    layers: Span
    course: Course
    form: HostForm
    whole: HostForm

    @property
    def hands_on(self) -> tuple[str, ...]:
        """Outputs that later links take."""
        return self.course.returned(self.layers)

    @property
    def state(self) -> PackedState:
        """How the state of its layers is packed."""
        return PackedState(self.form)

    def inputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function takes, in their order."""
        before = self.course.taken(self.layers) or ("latents", "time")
        return (*before, "text", *(() if function == "first" else self.state.names))

    def outputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function returns, in their order."""
        behind = self.hands_on or (() if function == "commit" else (VELOCITY,))
        return (*behind, *(() if function in ("first", "denoise") else self.state.new_names))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all inputs and outputs by name."""
        names = (*self.course.taken(self.layers), *self.hands_on)
        return self.form.shapes() | {name: self.course.shape(name) for name in names}

    def narrowed(self) -> tuple[str, ...]:
        """Return the inputs of which it reads a part only, where the chain as one takes all of it."""
        own, every = ((form.rows(), form.shapes()) for form in (self.form, self.whole))
        return tuple(
            name for name in self.state.names if any(a[name] != b[name] for a, b in zip(own, every, strict=True))
        )

    def given(self, past: Mapping[str, Tensor]) -> Tensors:
        """Return what its functions take of the past, of the past of all layers."""
        every, own, shapes, narrowed = self.whole.rows(), self.form.rows(), self.form.shapes(), self.narrowed()
        found = Tensors()
        for name in self.state.names:
            found[name] = past[name]
            if name in narrowed:
                rows = [every[name].index(row) for row in own[name]]
                height, width = shapes[name][2:]
                found[name] = trimmed(_rows(past[name], rows), width)
                found[name] = found[name] if found[name].shape[2] == height else found[name].narrow(2, 0, height)
        return found


class ChainSteps(PackedSteps):
    """The functions of one model at one shape, in several packages.

    Args:
        model: In evaluation mode.
        shape: Grid, frames and window.
        spans: Layers of every link.
        functions: Those that are wanted; by default all.
        network: The model's twin, where there is one.
    """

    def __init__(
        self,
        model: S2DiT,
        shape: StepShape,
        spans: Sequence[Span],
        functions: tuple[FunctionName, ...] = FUNCTIONS,
        network: PackedNetwork | None = None,
    ) -> None:
        super().__init__(model, shape, functions, network=network)
        self.course = Course.of(model.config, model.streams, shape.grid, shape.frames)
        self.links: Sequence[PackedLink] = tuple(
            PackedLink(span, self.course, self.form.of_layers(*span), self.form) for span in spans
        )

    @override
    def function(self, function: FunctionName) -> nn.Module:
        return _ChainFunction(self, function)

    def programs(self, function: FunctionName, table: dict[Any, Any]) -> Iterator[ExportedProgram]:
        """Return the graphs of the links' functions of a name, first to last: parts of one that is traced here."""
        whole = program_of(_ChainFunction(self, function, at_seams=True), tuple(self.blank(function).values()), table)
        specs = whole.graph_signature.input_specs
        taken = [spec.arg.name for spec in specs if spec.target is None]
        returned = [node.name for node in whole.graph.output_node().args[0]]
        value = dict(zip(self.inputs(function), taken, strict=True))
        value |= dict(zip(self.outputs(function), returned, strict=False))
        seams = dict(zip(self.seams(function), returned[len(self.outputs(function)) :], strict=True))

        def part(link: PackedLink) -> ExportedProgram:
            own = value | {name: node for (of, name), node in seams.items() if of in (None, link.layers)}
            names = link.inputs(function), link.outputs(function)
            return program_between(whole, *([own[name] for name in side] for side in names))

        return map(part, self.links)

    def seams(self, function: FunctionName) -> tuple[tuple[Span | None, str], ...]:
        """Return the values at borders of links that none of all of them has: a link's own, or what is handed on."""
        found: list[tuple[Span | None, str]] = []
        for link in self.links:
            found += [(None, name) for name in link.hands_on]
            own = () if function == "first" else link.narrowed()
            new = [name for name in link.outputs(function) if name not in (*link.hands_on, VELOCITY)]
            found += [(link.layers, name) for name in (*own, *new)]
        return tuple(found)


class _Seams(Uncut):
    """Hands over what goes from link to link, in one pass.

    Attributes:
        handed: By name.
    """

    def __init__(self, course: Course, links: Sequence[PackedLink]) -> None:
        self._course, self._behind = course, {link.layers[0]: link for link in links[1:]}
        self._names = {name for link in links for name in link.hands_on}
        self.handed = Tensors()

    @override
    def between(self, number: int, route: Route) -> None:
        if hidden(number) in self._names:
            self._hand(hidden(number), route.stream)
        if (link := self._behind.get(number)) is not None:
            left = self._course.left_at(number)
            taken = self._course.taken(link.layers)
            skip = None if left is None or hidden(left) not in taken else self._stream(left)
            route.go_on(self._stream(number), skip)

    @override
    def modulation(self, number: int, modulation_1M11: Tensor) -> Tensor:
        if MODULATION not in self._names or number < min(self._behind):
            return modulation_1M11
        return self._turned(MODULATION, modulation_1M11)

    @override
    def embedding(self, time_1D11: Tensor) -> Tensor:
        return self._turned(EMBEDDING, time_1D11) if EMBEDDING in self._names else time_1D11

    def _turned(self, name: str, x_1M11: Tensor) -> Tensor:
        """Hand over channels, which stand on the last axis meanwhile."""
        if name not in self.handed:
            self._hand(name, x_1M11.reshape(1, 1, 1, -1))
        return trimmed(self.handed[name], x_1M11.shape[1]).reshape(x_1M11.shape)

    def _hand(self, name: str, x: Tensor) -> None:
        self.handed[name] = widened(x, self._course.shape(name)[3])

    def _stream(self, layer: int) -> Tensor:
        return trimmed(self.handed[hidden(layer)], self._course.tokens(layer))


class _ChainFunction(nn.Module):
    """One function of all links; `at_seams`: returns what is at their borders as well. Its weights are the twin's."""

    def __init__(self, steps: ChainSteps, function: FunctionName, *, at_seams: bool = False) -> None:
        super().__init__()
        self.model, self.function = steps.network, function
        self._links, self._form, self._course = steps.links, steps.form, steps.course
        self._names = steps.inputs(function)[3:]
        self._seams = steps.seams(function) if at_seams else ()
        self.eval()

    def forward(self, latents_1CRX: Tensor, time_111F: Tensor, text_1E1W: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `ChainSteps.outputs`, then those of `ChainSteps.seams`."""
        form, seams, layers = self._form, _Seams(self._course, self._links), dict[int, Tensors]()
        past = dict(zip(self._names, state, strict=True))
        given = {link.layers: link.given(past) if self.function != "first" else Tensors() for link in self._links}
        for link in self._links if self.function != "first" else ():
            layers |= link.state.layers(given[link.layers])
        velocity_1CTYX, new = self.model.step(
            PASSES[self.function],
            trimmed(latents_1CRX, form.latents[3]),
            trimmed(time_111F, form.time_channels).reshape(1, -1, 1, 1),
            trimmed(text_1E1W, form.text[0]),
            None if self.function == "first" else layers,
            seams,
        )
        own = {span: x | self._new(span, new, x) for span, x in given.items()}
        found: list[Tensor] = []
        if velocity_1CTYX is not None:
            found.append(widened(velocity_1CTYX.flatten(2, 3), form.shapes()[VELOCITY][3]))
        found += self._joined(own) if new else []
        return (*found, *(seams.handed[name] if of is None else own[of][name] for of, name in self._seams))

    def _new(self, span: Span, new: Mapping[int, Tensors], given: Tensors) -> Tensors:
        return PackedState(self._form.of_layers(*span)).new(new, given) if new else Tensors()

    def _joined(self, own: Mapping[Span, Tensors]) -> list[Tensor]:
        """Return what is new of all layers, as one package of them returns it."""
        shapes = self._form.shapes()
        parts = {name: [x[name] for x in own.values() if name in x] for name in PackedState(self._form).new_names}
        return [stacked(rows, shapes[name]) for name, rows in parts.items()]


def _rows(x_LDXM: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows, which stand side by side wherever they are of layers that do."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return x_LDXM if len(rows) == len(x_LDXM) else x_LDXM.narrow(0, rows[0], len(rows))
    return torch.cat([x_LDXM.narrow(0, row, 1) for row in rows])
