"""A model made fast for streaming: fused layers, compiled one kind at a time, and on a GPU replayed as CUDA graphs.

It reads, commits and advances as the model does, to within rounding, and takes its place in a sampler. Whatever it
compiles or records it does at the first call of each kind: reading and committing, each for every number of frames that
the window has held so far (three, with chunks of 3 and a window of 2 chunks). `warm_up` does it all beforehand.

No GPU could be had when this was written: its CUDA form was run with a faithful stand-in for the graph, and traced
without numbers. Its speed there is open (`tests/benchmarks/test_stream_speed.py` measures it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # its limit of 8 graphs per function is less than windows, streams and models come to
from torch import Tensor

from s2search.block import Window
from s2search.errors import InputError
from s2search.network.network import LayerStates, S2DiT
from s2search.network.walk import LAYER_PASSES, Pass, walk
from s2search.streaming.replay import Capture, Given, Recorded, cuda_graph, kind, leaves, with_leaves

_MOST_GRAPHS = 1000


class Compiled:
    """Stands for an `S2DiT` in any sampler. It shares the model's weights but queries', keys' and values'.

    States are the model's own and never change in place: either may go on where the other stopped.

    Attributes:
        config: The model's.
    """

    def __init__(self, model: S2DiT, *, compile: bool = True, capture: Capture | None = None) -> None:
        """Prepare a model; nothing is compiled yet.

        Args:
            model: Left as it is; on the device and in the precision that it shall run in.
            compile: Compile every kind of layer (torch.compile, static shapes); else run fused layers eagerly.
            capture: Records a pass; by default a CUDA graph on a GPU, and nothing elsewhere.

        Raises:
            InputError: Nothing here can compile.
        """
        self.config = model.config
        self._weights_digest = model.weights_digest()  # fused weights have other names, and states are the model's own
        self._network = model.fused()
        self._capture = capture or (cuda_graph if self._device.type == "cuda" else None)
        self._recorded: dict[Any, Recorded] = {}
        self._text: Given | None = None
        self._text_read: tuple[Any, ...] = ()
        self._compile = compile
        if compile:
            _check_compiler(self._device)
        self._layer_passes: dict[Pass, Callable[..., tuple[Tensor, Any]]] = {
            what: _compiled(function) if compile else function for what, function in LAYER_PASSES.items()
        }

    def parameters(self) -> Any:
        """Return the weights that it runs with."""
        return self._network.parameters()

    def weights_digest(self) -> str:
        """Return the model's, as it was when this was made."""
        return self._weights_digest

    def initial_state(self, *arguments: Any, window: Window | None = None, **options: Any) -> LayerStates:
        """Return a state that remembers nothing yet. See `S2DiT.initial_state`.

        Raises:
            InputError: The window has no end: every chunk would be compiled again.
        """
        fixed = self._compile or self._capture is not None
        if fixed and (window or self.config.preset.window).frames is None:
            raise InputError(
                "a compiled model cannot have an unlimited window", remedy="set a window, or do not compile"
            )
        state: LayerStates = self._network.initial_state(*arguments, window=window, **options)
        return state

    @torch.no_grad()
    def forward(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates | None = None
    ) -> Tensor:
        """Return the predicted velocity. See `S2DiT.forward`."""
        velocity_BCTYX: Tensor = self._run("read", latents_BCTYX, s_BT, text_BSE, state)[0]
        return velocity_BCTYX

    __call__ = forward

    @torch.no_grad()
    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return the state with this chunk added. See `S2DiT.commit`."""
        new: LayerStates = self._run("commit", latents_BCTYX, s_BT, text_BSE, state)[1]
        return new

    @torch.no_grad()
    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return what `forward` and `commit` return, from one pass that makes keys, values and sums once."""
        velocity_BCTYX, new = self._run("advance", latents_BCTYX, s_BT, text_BSE, state)
        assert velocity_BCTYX is not None
        return velocity_BCTYX, new

    def warm_up(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> None:
        """Compile and record every kind of pass, from this state until a further chunk adds no frame to it."""
        inputs, seen = (latents_BCTYX, s_BT, text_BSE), None
        while kind(state) != seen:
            self.forward(*inputs, state)
            self.advance(*inputs, state)
            seen, state = kind(state), self.commit(*inputs, state)

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _run(self, what: Pass, latents: Tensor, s: Tensor, text: Tensor, state: LayerStates | None) -> Any:
        inputs = (latents, s, self._words(text), state)
        if self._capture is None or state is None:
            velocity_BCTYX, new = self._pass(what, inputs)
            return velocity_BCTYX, with_leaves(new, map(_compact, leaves(new)))
        if (key := (what, kind(inputs))) not in self._recorded:
            self._recorded[key] = Recorded(lambda given: self._pass(what, given), inputs, self._capture)
        return self._recorded[key](inputs)

    def _pass(self, what: Pass, inputs: Any) -> tuple[Tensor | None, LayerStates]:
        """Return the velocity where it is asked for, and the new state where that is."""
        latents_BCTYX, s_BT, words, state = inputs
        layers = self._network.layers
        past = (None,) * len(layers) if state is None else state

        def visit(what: Pass, number: int, x_BTHWD: Tensor, modulation_BT6D: Tensor) -> tuple[Tensor, Any]:
            run = self._layer_passes[what]
            return run(layers[number], x_BTHWD, modulation_BT6D, words[number], past[number])

        with torch._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
            return walk(self._network, what, latents_BCTYX, s_BT, visit)

    def _words(self, text_BSE: Tensor) -> tuple[Any, ...]:
        """Return what every layer needs of a text, made once for as long as the same text is given."""
        if self._text is None or not self._text.is_still(text_BSE):
            self._text_read = tuple(_read_text(layer, text_BSE) for layer in self._network.layers)
            self._text = Given(text_BSE)
        return self._text_read


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Weights are inputs of a function over layers: it is compiled per kind of layer, not per layer.
    compiled: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled


def _check_compiler(device: torch.device) -> None:
    """Raise where inductor lacks what it hands its programs to."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise InputError("torch.compile needs triton on a GPU", remedy="pip install triton, or do not compile")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError(
            "torch.compile finds no C++ compiler", remedy="install g++ (or set CXX to one), or do not compile"
        ) from None


def _compact(tensor: Tensor) -> Tensor:
    """Return a tensor that keeps nothing else alive: inductor cuts a window out of frames without copying it."""
    exact = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if exact else tensor.clone(memory_format=torch.contiguous_format)


def _read_text(layer: Any, text_BSE: Tensor) -> Any:
    return layer.read_text(text_BSE) if hasattr(layer, "read_text") else text_BSE
