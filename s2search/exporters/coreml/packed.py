"""A step's functions in a form in which Core ML keeps nothing: the host packs what it keeps, and is given what is new.

They compute what those of `exporters/step.py` compute, from the same weights, with channels before tokens; what goes in
and out, and what the host does before and after, is `exporters/host.py`. With `keeper` "core_ml" keys, values and tails
are one state instead, `past`, which the program itself writes; sums are the host's in any case.

`to_source` and `from_source` convert to the tensors of `step.py`, so that one can be held against the other.

Axes: L layers  C latent channels  R latent rows of all frames  X latent columns  F frequencies  D channels  S tokens
      E text channels  W text tokens  M modulation (6 D)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from s2search.block import KeptRing, KeptSums, KeptTail
from s2search.errors import InputError
from s2search.exporters.coreml.channels_first import PASSES, ChannelsFirstNetwork
from s2search.exporters.coreml.packed_layer import packed_layer
from s2search.exporters.coreml.packed_state import PackedState, trimmed, widened
from s2search.exporters.host import Arrays, Host, HostForm, Keeper
from s2search.exporters.packed_source import from_source, to_source
from s2search.exporters.past import FUNCTIONS, FunctionName, StepShape, Tensors
from s2search.exporters.step import VELOCITY, Steps
from s2search.network.network import S2DiT
from s2search.network.walk import Pass, Route, walk
from s2search.preset import PATCH


class PackedSteps(Steps):
    """The functions of one model at one shape, whose past the host keeps.

    Attributes:
        network: The twin, whose weights have the names of the model's.
        own_layout: Numbers of layers that have no twin.
        form: What a host must know.
        host: Its arithmetic, in the model's own precision.
    """

    def __init__(
        self,
        model: S2DiT,
        shape: StepShape,
        functions: tuple[FunctionName, ...] = FUNCTIONS,
        keeper: Keeper = "host",
        network: PackedNetwork | None = None,
    ) -> None:
        super().__init__(model, shape, functions)
        self._source_state = self.state
        self.network = PackedNetwork(model, shape) if network is None else network
        self.own_layout = self.network.own_layout
        self.form: HostForm = host_form(self.network, model, shape, keeper)
        kinds = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}
        self.host = Host(self.form, kinds[self._kind], kinds[self._exact])
        self.state = _tensors(self.host.past(self.host.start()))

    @property
    @override
    def exact(self) -> tuple[str, ...]:
        return ()

    @property
    @override
    def stored(self) -> nn.Module:
        return self.network

    @override
    def example(self, function: FunctionName, *, seed: int = 0) -> Tensors:
        source = super().example("first", seed=seed)
        latents_1CTYX, s_11, text_1WE = (source[name].numpy() for name in ("latents", "s", "text"))
        given = _tensors(self.host.inputs(latents_1CTYX[0], float(s_11[0, 0]), text_1WE[0]))
        return given if function == "first" else given | self.left([given, given])

    @override
    def left(self, chunks: Iterable[Tensors]) -> Tensors:
        commit, state = self.function("commit"), self.host.start()
        with torch.no_grad():
            for given in chunks:
                outputs = commit(*given.values(), *_tensors(self.host.past(state)).values())
                named = zip(self.outputs("commit"), outputs, strict=True)
                state = self.host.after(state, {name: x.numpy() for name, x in named})
        return _tensors(self.host.past(state))

    @override
    def inputs(self, function: FunctionName) -> tuple[str, ...]:
        return ("latents", "time", "text", *(() if function == "first" else self.state))

    @override
    def outputs(self, function: FunctionName) -> tuple[str, ...]:
        velocity: tuple[str, ...] = () if function == "commit" else (VELOCITY,)
        return velocity + (() if function in ("first", "denoise") else PackedState(self.form).new_names)

    @override
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.form.shapes()

    @override
    def to_source(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return to_source(self.form, arrays, {name: tuple(x.shape) for name, x in self._source_state.items()})

    @override
    @contextmanager
    def given_to(self, model: nn.Module, arrays: Mapping[str, Any]) -> Iterator[None]:
        """Give the source the sinusoids as they are: a noise level says them to float16's rounding only."""
        time: Any = model.get_submodule("stem.time")
        kind = next(model.parameters()).dtype
        given_11F = torch.from_numpy(arrays["time"][0, :, :, : self.form.time_channels]).to(kind)
        hook = time.register_forward_pre_hook(lambda *_: (given_11F,))
        try:
            yield
        finally:
            hook.remove()

    @override
    def from_source(self, arrays: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        return from_source(self.form, arrays, given)

    @override
    def function(self, function: FunctionName) -> nn.Module:
        return _PackedFunction(self.network, function, self.form)


class Uncut:
    """What is done at the seams of a pass: nothing, in one that a single package makes. See `chained.py`."""

    def between(self, number: int, route: Route) -> None:
        """Called before a layer is entered."""

    def modulation(self, number: int, modulation_1M11: Tensor) -> Tensor:
        """Return the modulation that a layer gets."""
        return modulation_1M11

    def embedding(self, time_1D11: Tensor) -> Tensor:
        """Return the time embedding that the head gets."""
        return time_1D11


class PackedNetwork(ChannelsFirstNetwork):
    """The twin of `S2DiT` whose layers read what the host gives and return what is new.

    Raises:
        InputError: A part has no such form.
    """

    def __init__(self, model: S2DiT, shape: StepShape) -> None:
        super().__init__(model, shape, packed_layer)
        if not hasattr(self.stem, "embedded"):
            raise InputError(
                f"the part {model.parts['stem'].label!r} takes no sinusoids of the noise level",
                allowed="parts whose form with channels first has the method embedded",
                remedy="export with state=plain",
            )
        # The host adds the rest of a residual velocity.
        self.config = dataclasses.replace(model.config, velocity="plain")

    def step(
        self,
        what: Pass,
        latents_1CRX: Tensor,
        sinusoids_1F11: Tensor,
        text_1E1W: Tensor,
        past: Mapping[int, Tensors] | None,
        seams: Uncut | None = None,
    ) -> tuple[Tensor | None, dict[int, Tensors]]:
        """Return the velocity (None of a commit), and what is new of every layer where that is wanted."""
        seams = seams or Uncut()
        text_1WE = text_1E1W[:, :, 0].transpose(1, 2) if self.own_layout else text_1E1W
        new: dict[int, Tensors] = {}

        def visit(what: Pass, number: int, x_1D1S: Tensor, modulation_1M11: Tensor) -> tuple[Tensor, None]:
            way, modulation_1M11 = self.ways[number], seams.modulation(number, modulation_1M11)
            if what != "read":
                new[number] = way.new(x_1D1S, modulation_1M11)
            if what != "commit":
                given = None if past is None else past[number]
                x_1D1S = way.read(x_1D1S, modulation_1M11, text_1WE, text_1E1W, given)
            return x_1D1S, None

        stem: Any = self.stem
        walked: Any = SimpleNamespace(
            config=self.config,
            stem=stem.embedded,
            head=lambda x_1D1S, time_1D11: self.head(x_1D1S, seams.embedding(time_1D11)),
            streams=self.streams,
            lowered=self.lowered,
            raised=self.raised,
        )
        velocity_1CTYX, _ = walk(walked, what, latents_1CRX, sinusoids_1F11, visit, seams.between)
        return velocity_1CTYX, new


class _PackedFunction(nn.Module):
    """One function. Its weights are the twin's, under `model.`."""

    def __init__(self, network: PackedNetwork, function: FunctionName, form: HostForm) -> None:
        super().__init__()
        self.model, self.function, self._form = network, function, form
        self._packed = PackedState(form)
        self.eval()

    def forward(self, latents_1CRX: Tensor, time_111F: Tensor, text_1E1W: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `PackedSteps.outputs`."""
        form, packed = self._form, self._packed
        past = dict(zip(packed.names, state, strict=True)) if self.function != "first" else None
        velocity_1CTYX, new = self.model.step(
            PASSES[self.function],
            trimmed(latents_1CRX, form.latents[3]),
            trimmed(time_111F, form.time_channels).reshape(1, -1, 1, 1),
            trimmed(text_1E1W, form.text[0]),
            None if past is None else packed.layers(past),
        )
        outputs: tuple[Tensor, ...] = ()
        if velocity_1CTYX is not None:
            velocity_1CRX = velocity_1CTYX.flatten(2, 3)
            outputs = (widened(velocity_1CRX, form.shapes()[VELOCITY][3]),)
        return outputs if past is None or not new else (*outputs, *packed.new(new, past).values())


def host_form(network: PackedNetwork, model: S2DiT, shape: StepShape, keeper: Keeper) -> HostForm:
    """Return what a host must know of a model at a shape."""
    preset, (rows, columns), stem = model.config.preset, shape.grid, network.stem
    kept = [one for way in network.ways for one in way.kept]
    return HostForm(
        latents=(model.config.latent_channels, shape.frames, PATCH[1] * rows, PATCH[2] * columns),
        text=(preset.text_tokens, preset.text_channels),
        time_channels=int(stem.time_channels),  # type: ignore[arg-type]
        residual=model.config.velocity == "residual",
        channels=preset.channels,
        slots=shape.slots,
        sink_frames=shape.window.sink_frames,
        chunk_slots=shape.chunk_slots,
        sink_chunks=-(-shape.window.sink_frames // shape.frames),
        rings=tuple(one for one in kept if isinstance(one, KeptRing)),
        tails=tuple(one for one in kept if isinstance(one, KeptTail)),
        sums=tuple(one for one in kept if isinstance(one, KeptSums)),
        keeper=keeper,
    )


def _tensors(arrays: Arrays) -> Tensors:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
