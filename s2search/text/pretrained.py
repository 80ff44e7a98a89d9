"""Text models of transformers, read from a local folder as the Hugging Face Hub lays it out.

Two layouts are read: a model's own repository, with config.json, safetensors and the tokenizer side by side, and a
pipeline's of diffusers, with the folders text_encoder and tokenizer. Nothing is fetched, and nothing is unpickled.
"""

from __future__ import annotations

import abc
import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.border.regular_file import read_regular
from s2search.errors import InputError, require
from s2search.text.base import LoadedText, TextEncoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: What makes transformers read other weights than model.safetensors, or other code than its own.
_REDIRECTIONS = ("transformers_weights", "quantization_config")
_LAYER = re.compile(r"layers\.|^encoder\.block\.")


@dataclass(frozen=True, kw_only=True)
class PretrainedText(TextEncoder):
    """A text model of transformers with its tokenizer.

    Attributes:
        folder: The local folder.
    """

    #: A repository that the folder may be a copy of.
    example: ClassVar[str]
    #: The `model_type` of config.json.
    model_types: ClassVar[tuple[str, ...]]
    #: Files of a tokenizer; any of these sets will do.
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]]
    #: Classes of transformers.
    config_class: ClassVar[str]
    model_class: ClassVar[str]
    tokenizer_class: ClassVar[str]
    #: Patterns in the names of stored weights -> what the model calls them.
    renamed: ClassVar[Mapping[str, str]] = {}

    folder: str

    @property
    @override
    def channels(self) -> int:
        channels: int = self._config().hidden_size
        return channels

    @override
    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        config, tokenizer, folder = self._config(), self._tokenizer(), self._place("text_encoder")
        if not any((folder / file).is_file() for file in ("model.safetensors", "model.safetensors.index.json")):
            raise self._unfit("holds no model.safetensors", "safetensors only: pickled weights can run code")
        with self._reading("weights"):
            model, found = _transformers(self.model_class).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                key_mapping=dict(self.renamed) or None,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        if misfits := _misfits(found):
            raise self._unfit(f"has weights that do not fit its config.json ({len(misfits)}, such as {misfits[0]})")
        return self._loaded(tokenizer, model.to(device).requires_grad_(False))

    @abc.abstractmethod
    def _loaded(self, tokenizer: Any, model: Any) -> LoadedText:
        """Return what encodes with a tokenizer and a model."""

    def _config(self) -> Any:
        """Return the text model's configuration, also from that of a model of text and pictures."""
        require("transformers")
        folder = self._place("text_encoder")
        try:
            stored = json.loads(read_regular(folder / "config.json"))
            kind = stored.get("model_type")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise self._unfit(f"has no config.json that can be read ({error})") from error
        if kind not in self.model_types:
            raise self._unfit(f"holds a model of type {kind!r}", f"one of {', '.join(self.model_types)}")
        for name in _REDIRECTIONS:
            if name in stored:
                raise self._unfit(f"has a config.json with {name!r}", "plain weights in model.safetensors")
        if (folder / "adapter_config.json").exists():
            raise self._unfit("holds an adapter", "plain weights in model.safetensors")
        with self._reading("a configuration"):
            return _transformers(self.config_class).from_pretrained(folder, local_files_only=True)

    def _tokenizer(self) -> Any:
        folder = self._place("tokenizer")
        if not any(all((folder / file).is_file() for file in files) for files in self.tokenizer_files):
            allowed = " or ".join(" and ".join(files) for files in self.tokenizer_files)
            raise self._unfit("holds no tokenizer", allowed)  # transformers would make one that knows no word
        with self._reading("a tokenizer"):
            return _transformers(self.tokenizer_class).from_pretrained(folder, local_files_only=True)

    def _place(self, part: str) -> Path:
        """Return the folder of the model or of the tokenizer."""
        folder = Path(self.folder).expanduser()
        if not folder.is_dir():
            raise self._unfit("is not a folder")
        return folder / part if (folder / part).is_dir() else folder

    def _sources(self) -> dict[str, Path]:
        """Return the folders of the model and of the tokenizer, by their places in the local folder."""
        places = {self._place("text_encoder"), self._place("tokenizer")}
        return {str(place.relative_to(Path(self.folder).expanduser())): place for place in places}

    @contextlib.contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        """Say in one line what went wrong, and silence what transformers says about what went well."""
        try:
            with _quiet():
                yield
        except Exception as error:  # a damaged file makes transformers raise whatever it happens to meet
            raise self._unfit(f"holds {part} that cannot be read ({type(error).__name__}: {error})") from error

    def _unfit(self, problem: str, allowed: str = "") -> InputError:
        return InputError(
            f"{self.folder!r}, the folder of the text encoder {self.name!r}, {problem}",
            allowed=allowed,
            remedy=f"name a local copy of a model such as {self.example}",
            folder=self.folder,
        )


def _misfits(found: Mapping[str, Any]) -> list[str]:
    """Return the weights that transformers only warns about: it leaves them random, or leaves layers out.

    Stored weights of other parts, such as the half that sees pictures, are as they should be.
    """
    shapes = {name for name, *_ in found["mismatched_keys"]}
    layers = {name for name in found["unexpected_keys"] if _LAYER.search(name) and "vision" not in name}
    return sorted({*found["missing_keys"], *shapes, *layers})


def token_ids(tokenizer: Any, prompts: Sequence[str], tokens: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return ids_BS and kept_BS (1 for a prompt's tokens, 0 for padding), cut and padded at the end.

    Raises:
        InputError: A token has no vector in a vocabulary of this size.
    """
    found = tokenizer(
        [prompt.encode(errors="replace").decode() for prompt in prompts],  # half a surrogate pair becomes "?"
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=tokens,
        return_tensors="pt",
    )
    ids_BS, kept_BS = found["input_ids"], found["attention_mask"]
    if ids_BS.numel() and (most := int(ids_BS.max())) >= vocabulary:
        raise InputError(
            f"the tokenizer gave token {most}",
            allowed=f"the model has vectors for 0 to {vocabulary - 1}",
            remedy="put the tokenizer beside the model that it was made for",
        )
    return ids_BS, kept_BS


def _transformers(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings, log lines and bars of transformers; what matters in them is checked."""
    level, bars = logging.root.manager.disable, _transformers("logging")
    shown = bars.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if shown:
            bars.enable_progress_bar()
