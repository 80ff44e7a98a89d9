"""The functions of a chain of Core ML packages as one, so that one can look into it from its first value to its last.

Nothing is computed between two links: what one returns, a later one reads. Values of a link have their own names where
no link before has them. What a link takes and returns of the state are inputs and outputs of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from s2search.errors import InputError
from s2search.exporters.chain import joined_outputs, part_of_inputs
from s2search.exporters.host import HostForm
from s2search.exporters.package import ChainLink
from s2search.mil.function import Constant, Function, Named, Operation
from s2search.mil.program import Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
_SHARED = ("latents", "time", "text", "velocity")  # the same for every link that takes or returns them


def joined_program(name: str, links: Sequence[tuple[ChainLink, Function]]) -> Program:
    """Return a program of one function, which is a chain's.

    Args:
        name: Of the function.
        links: Every link with its own, in their order.

    Raises:
        InputError: A link takes what none before it hands on, or takes it otherwise.
    """
    function = Function(name=name, inputs=(), states=(), outputs=(), constants={}, operations=())
    handed: dict[str, Named] = {}
    for number, (link, own) in enumerate(links):
        names = _Names(number, function, {*handed, *link.hands_on})
        for one in own.inputs:
            if one.name in handed and handed[one.name].type != one.type:
                raise InputError(
                    f"link {number + 1} takes {one.name!r} as {one.type}", allowed=str(handed[one.name].type)
                )
        operations = tuple(map(names.operation, own.operations))
        inputs = {one.name: one for one in function.inputs}
        inputs |= {names[one.name]: replace(one, name=names[one.name]) for one in own.inputs if one.name not in handed}
        handed |= {one.name: one for made in operations for one in made.outputs if one.name in link.hands_on}
        function = replace(
            function,
            inputs=tuple(inputs.values()),
            outputs=(*function.outputs, *(names[one] for one in own.outputs if one not in link.hands_on)),
            constants={**function.constants, **{names[key]: value for key, value in own.constants.items()}},
            operations=(*function.operations, *operations),
        )
    return Program(functions={name: function}, default=name, metadata={})


class _Names:
    """Names of a link's values in the joined function."""

    def __init__(self, number: int, before: Function, handed: set[str]) -> None:
        self._number, self._handed = number, handed
        self._taken = {*before.constants, *(one.name for made in before.operations for one in made.outputs)}

    def __getitem__(self, name: str) -> str:
        if name in self._handed or name in _SHARED:
            return name
        return of_link(name, self._number) if name in self._taken or name in _STATE else name

    def operation(self, operation: Operation) -> Operation:
        """Return an operation that reads and gives values by these names."""
        inputs = {
            key: tuple(value if isinstance(value, Constant) else self[value] for value in values)
            for key, values in operation.inputs.items()
        }
        outputs = tuple(replace(one, name=self[one.name]) for one in operation.outputs)
        return replace(operation, name=self[operation.name], inputs=inputs, outputs=outputs)


_KEPT = ("past_bias", "keys", "values", "tails", "sums")
_STATE = {*_KEPT, *(f"new_{name}" for name in _KEPT)}


def of_link(name: str, number: int) -> str:
    """Return what a link's value is called where the links before it have one of that name, or it is of the state.

    >>> of_link("keys", 1)
    'keys@2'
    """
    return f"{name}@{number + 1}"


def inputs_of_joined(
    whole: HostForm, chain: Sequence[ChainLink], function: str, inputs: Mapping[str, NDArray[Any]]
) -> Arrays:
    """Return what a joined function takes, of the inputs of all layers."""
    found = Arrays()
    for number, link in enumerate(chain):
        own = part_of_inputs(whole, link.host, inputs)
        for one in link.function(function).inputs:
            if one.name in own:
                found[of_link(one.name, number) if one.name in _STATE else one.name] = own[one.name]
    return found


def outputs_of_joined(whole: HostForm, chain: Sequence[ChainLink], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what all layers give, of what a joined function does."""
    found = joined_outputs(whole, list(_outputs_of_links(chain, outputs)))
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _outputs_of_links(chain: Sequence[ChainLink], outputs: Mapping[str, Tensor]) -> Iterator[tuple[HostForm, Arrays]]:
    for number, link in enumerate(chain):
        ends = f"@{number + 1}"
        own = {name.removesuffix(ends): x.numpy() for name, x in outputs.items() if name.endswith(ends)}
        own |= {name: outputs[name].numpy() for name in _SHARED if name in outputs}
        yield link.host, own
