"""The error tree: every error says the problem and the value, what is allowed, and the remedy, in one line.

The command line prints that line and exits with `exit_code`; anything that is not an `S2SearchError` is a bug and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from s2search.border.printable import printable

_LONGEST = 4000

#: What each extra of s2search brings, by the names under which it is imported.
EXTRAS = {
    "figures": ("matplotlib", "pandas"),
    "search": ("optuna",),
    "readers": ("yaml",),
    "models": ("torch", "safetensors", "huggingface_hub"),
    "coreml": ("coremltools",),
    "onnxruntime": ("onnx", "onnxruntime", "onnxscript"),
    "executorch": ("executorch",),
    "coreai": ("coreai", "coreai_torch"),
    "video": ("av", "diffusers", "transformers", "PIL"),
    "doom": ("vizdoom",),
    "train": ("tensorboard",),
    "litert": ("litert_torch",),
    "qai_hub": ("qai_hub",),
    "embedl": ("embedl_hub",),
    "litert_cloud": ("litert_cli",),
}
_KNOWN_AS = {
    "av": "PyAV",
    "yaml": "PyYAML",
    "coreai": "coreai-core",
    "coreai_torch": "coreai-torch",
    "qai_hub": "qai-hub",
    "embedl_hub": "embedl-hub",
    "litert_cli": "litert-cli",
    "litert_torch": "litert-torch",
}


class S2SearchError(Exception):
    """The base of every error that a user can mend.

    Args:
        problem: What is wrong, with the offending value in it.
        allowed: What would be accepted, if that is not plain from the problem.
        remedy: What to do about it.
        fields: The values behind the sentence, for programs; they become attributes.

    >>> error = S2SearchError("no table is called 'x'", allowed="installed: a, b", remedy="name one of them", name="x")
    >>> str(error)
    "no table is called 'x'; installed: a, b; name one of them"
    >>> error.name
    'x'
    """

    exit_code = 2

    def __init__(self, problem: str, *, allowed: str = "", remedy: str = "", **fields: Any) -> None:
        self.problem, self.allowed, self.remedy, self.fields = problem, allowed, remedy, fields
        self.__dict__.update(fields)
        line = printable(" ".join("; ".join(part for part in (problem, allowed, remedy) if part).split()))
        # A file may hold a value of megabytes; its beginning names it, and the end has the remedy.
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 4 :]}")


class InputError(S2SearchError):
    """A value from outside (an option, a file, a constructor argument) that cannot be used."""


class QuantityError(InputError):
    """A budget or another quantity with a unit that cannot be read."""


class UnknownNameError(InputError):
    """A plugin, table, block or preset that is not installed.

    >>> str(UnknownNameError("latency model", "lokup", ["lookup", "linear"]))
    "no latency model is called 'lokup' (did you mean 'lookup'?); installed: linear, lookup"
    """

    def __init__(self, family: str, name: str, installed: Iterable[str], *, listed_as: str = "installed") -> None:
        names = sorted({*installed})
        close = difflib.get_close_matches(name, names, n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(
            f"no {family} is called {name!r}{guess}",
            allowed=f"{listed_as}: {', '.join(names) or 'none'}",
            family=family,
            name=name,
            installed=names,
        )


class MissingExtraError(InputError):
    """A library that comes with an extra of s2search, and is not installed.

    Args:
        module: The name under which the library is imported, one of `EXTRAS`.

    >>> str(MissingExtraError("diffusers"))
    "diffusers is not installed; install its extra: pip install 's2search[video]'"
    """

    def __init__(self, module: str) -> None:
        library, extra = _KNOWN_AS.get(module, module), next(name for name in EXTRAS if module in EXTRAS[name])
        super().__init__(
            f"{library} is not installed",
            remedy=f"install its extra: pip install 's2search[{extra}]'",
            library=library,
            extra=extra,
        )


class PluginError(InputError):
    """An installed plugin that cannot be loaded, or does not keep its family's contract."""


class TableError(InputError):
    """A latency table whose files do not say what a table must say."""


class MissingRowError(TableError):
    """A latency table that lacks a row which the plan needs."""


class ExtrapolationError(MissingRowError):
    """A prediction that was asked for outside the measured range."""


class ScoreError(InputError):
    """A score that cannot rank the candidates which it was given."""


class QualityError(InputError):
    """What is known of whole designs' quality that cannot be read, or contradicts itself."""


class ProblemError(InputError):
    """A search problem that contradicts itself."""


class InfeasibleError(S2SearchError):
    """No layout meets the budgets."""

    exit_code = 3


class CheckError(S2SearchError):
    """Something was checked and did not hold: a solver's own numbers, a file's digest."""

    exit_code = 1


@contextmanager
def keeping(answer: Any) -> Iterator[None]:
    """Let an error that comes when the work is done carry its `answer`, so that a command can still print it.

    >>> with keeping(42):
    ...     raise InputError("the disk is full")
    Traceback (most recent call last):
    s2search.errors.InputError: the disk is full
    """
    try:
        yield
    except S2SearchError as error:
        error.fields["answer"] = error.__dict__["answer"] = answer
        raise


def missing_extra(*modules: str) -> MissingExtraError | None:
    """Return the error for the first of these libraries that is not installed, or None where all of them are."""
    return next((MissingExtraError(module) for module in modules if find_spec(module) is None), None)


def require(*modules: str) -> None:
    """Refuse to go on without the libraries of an extra, before anything is computed.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    if error := missing_extra(*modules):
        raise error


@contextmanager
def extras_named() -> Iterator[None]:
    """Turn the failed import of an extra's library into the error that names the extra; also a decorator.

    Heavy imports stay plain `import` statements where they are needed. Whoever answers to a user (a command, a function
    of the Python API, the plugin registry) runs them inside this.

    >>> with extras_named():
    ...     raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
    Traceback (most recent call last):
    s2search.errors.MissingExtraError: pandas is not installed; install its extra: pip install 's2search[figures]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # What an installed library itself fails to import is that library's own trouble, and keeps its traceback.
        if error.name and any(error.name in modules for modules in EXTRAS.values()):
            raise MissingExtraError(error.name) from error
        raise
