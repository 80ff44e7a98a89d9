"""What the blocks of a source give, and the values inside a package that come nearest: no name says which they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from s2search.decibels import MOST_DB, parity_db
from s2search.exporters.step import FunctionName
from s2search.verification.inspectors.taps import Taps
from s2search.verification.opened import Opened
from s2search.verification.reference import block_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def outputs_of_blocks(
    opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what every block of the source gives, in the order in which they run; `down#2` is the second time.

    Of several outputs the first has the block's name, and the next is called `stem, output 1`. A layer that reads and
    commits at once, in `advance`, gives its output there.
    """
    found: dict[str, NDArray[Any]] = {}
    times = Counter[str]()

    def note(block: str, _: nn.Module, __: Any, output: Any) -> None:
        times[block] += 1
        name = block if times[block] == 1 else f"{block}#{times[block]}"
        for place, tensor in enumerate(output if isinstance(output, tuple) else (output,)):
            found[f"{name}, output {place}" if place else name] = tensor.numpy().copy()

    def advanced(block: str, advance: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
        def noted(*given: Any) -> tuple[Tensor, Any]:
            y, state = advance(*given)
            note(block, modules[block], given, y)
            return y, state

        return noted

    modules = dict(opened.source.named_modules())
    with ExitStack() as undone:
        for block, module in modules.items():
            if not block or block_of(block) != block or block in ("layers", "text"):
                continue
            undone.callback(module.register_forward_hook(partial(note, block)).remove)
            if hasattr(module, "advance"):  # hooks see `forward` alone
                module.__dict__["advance"] = advanced(block, module.advance)
                undone.callback(module.__dict__.pop, "advance")
        opened.run_source(function, inputs)
    return found


def nearest_db(
    outputs: Mapping[str, NDArray[Any]], taps: Taps, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, float] | None:
    """Return, by output of a block, the parity of the value of its tail that comes nearest: no name says which it is.

    No other value comes near by chance, and without a graph of the source nothing has to be traced. None where the
    order of values does not tell tails.
    """
    tails = taps.tails({name: output.size for name, output in outputs.items()})
    if tails is None:
        return None
    values = taps.run(inputs, {name for output in outputs for name in tails.get(output, ())})
    return {
        output: max(
            (parity_db(wanted.ravel(), values[name].ravel()) for name in tails.get(output, ()) if name in values),
            default=-MOST_DB,
        )
        for output, wanted in outputs.items()
    }
