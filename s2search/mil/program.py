"""A saved Core ML package (.mlpackage), read without Core ML and without running anything.

The protobuf is read with coremltools' generated classes; nothing of its converter is used. Every file must lie in the
package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2search.border.regular_file import read_regular
from s2search.errors import InputError, UnknownNameError
from s2search.mil.function import Function, FunctionReader, inside
from s2search.mil.library import load_coremltools

_REMEDY = "export the package again"


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a package holds.

    Attributes:
        functions: By name.
        default: The name of the one that runs if none is named.
        metadata: What the exporter noted.
    """

    functions: Mapping[str, Function]
    default: str
    metadata: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read a package.

        Raises:
            InputError: It is no package of an ML Program, or is damaged.
        """
        model = _model_path(path)
        try:
            content = read_regular(model)
        except OSError as error:
            raise InputError(f"the model {str(model)!r} cannot be read: {error.strerror}", remedy=_REMEDY) from error
        return _program(_specification(content, str(path)), model.parent)

    def function(self, name: str = "") -> Function:
        """Return a function, by default the one that runs if none is named.

        Raises:
            UnknownNameError: There is no such function.
        """
        if (name or self.default) not in self.functions:
            raise UnknownNameError(
                "function of this program", name or self.default, self.functions, listed_as="its functions"
            )
        return self.functions[name or self.default]


def _model_path(package: Path) -> Path:
    """Return where the manifest says that the model is."""
    manifest = package / "Manifest.json"
    try:
        document = json.loads(read_regular(manifest))
        item = document["itemInfoEntries"][document["rootModelIdentifier"]]["path"]
        return inside(package, package / "Data", item)
    except OSError as error:
        raise InputError(
            f"{str(package)!r} is not a Core ML package: {error.strerror or error}",
            remedy="name a folder that ends in .mlpackage",
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = str(error)[:200] or type(error).__name__
        raise InputError(f"the manifest of {str(package)!r} names no model: {problem}", remedy=_REMEDY) from error


def _specification(content: bytes, name: str) -> Any:
    load_coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    try:
        model = Model_pb2.Model.FromString(content)
    except DecodeError as error:
        raise InputError(f"the model of {name!r} is not a Core ML model: {error}", remedy=_REMEDY) from error
    kind = model.WhichOneof("Type")
    if kind is None:
        raise InputError(f"the model of {name!r} is empty", remedy=_REMEDY)
    if kind != "mlProgram":
        raise InputError(
            f"the model of {name!r} is of the kind {kind}",
            allowed="only mlProgram is read here",
            remedy='convert it with convert_to="mlprogram"',
        )
    return model


def _program(model: Any, folder: Path) -> Program:
    reader = FunctionReader(folder)
    functions = {name: reader.function(name, function) for name, function in model.mlProgram.functions.items()}
    if not functions:
        raise InputError("the program has no function", remedy=_REMEDY)
    description = model.description
    default = description.defaultFunctionName or ("main" if "main" in functions else next(iter(functions)))
    if default not in functions:
        raise UnknownNameError("function of this program", default, functions, listed_as="its functions")
    _check_description(description, functions, default)
    return Program(functions=functions, default=default, metadata=dict(description.metadata.userDefined))


def _check_description(description: Any, functions: Mapping[str, Function], default: str) -> None:
    """Hold what an application is told of inputs, outputs and states against the functions themselves."""
    told = list(description.functions) or [description]
    for function_told in told:
        name = function_told.name if description.functions else default
        if name not in functions:
            raise UnknownNameError("function of this program", name, functions, listed_as="its functions")
        function = functions[name]
        for kind, given, own in (
            ("inputs", function_told.input, {value.name for value in function.inputs}),
            ("outputs", function_told.output, set(function.outputs)),
            ("states", function_told.state, {value.name for value in function.states}),
        ):
            if (names := {feature.name for feature in given}) != own:
                raise InputError(
                    f"the package describes the {kind} of {name!r} as {sorted(names)}",
                    allowed=f"the function has {sorted(own)}",
                    remedy=_REMEDY,
                )
