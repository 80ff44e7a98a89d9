"""Saving and loading a model in the Hugging Face way: model.safetensors, config.json, and plan.json beside them.

Nothing is ever unpickled. The weights carry the digest of the config that they belong to, and the config that of its
plan; a folder whose files do not belong together is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError, safe_open

from s2search.border.regular_file import check_regular
from s2search.document import as_json, read_json, write_text
from s2search.errors import CheckError, InputError
from s2search.network.config import CONFIG, PLAN, WEIGHTS, ModelConfig
from s2search.network.weight_file import MappedTensors, save_tensors
from s2search.planner.plan import Plan

if TYPE_CHECKING:
    from torch import nn


class Pretrained(ModelHubMixin, library_name="s2search", tags=["text-to-video", "video-diffusion", "s2dit"]):
    """The door of `S2DiT` to folders and the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub`.

    `from_pretrained(folder)` needs no network. It takes `device` and `dtype` (by default those of the file), and
    `plan` (a `Plan`), where the weights must be those of one plan. With `mapped=True` the weights stay in the file, and
    parts of it are in memory while they are read: for what reads every weight once, and never writes.

    Attributes:
        mapping: The file, where the weights are mapped.
    """

    config: ModelConfig
    plan: Plan | None
    mapping: MappedTensors | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Load a model from a folder or the Hub, in evaluation mode.

        Raises:
            InputError: A file is missing, harmed, or does not fit.
            CheckError: Files that do not belong together.
        """
        return cls._from_pretrained(
            model_id=str(pretrained_model_name_or_path),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            **model_kwargs,
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        partial = save_directory / f".{WEIGHTS}.partial"
        self._save_weights(partial, {"format": "pt", "s2search.model": self.config.digest})
        partial.replace(save_directory / WEIGHTS)
        write_text(save_directory / CONFIG, as_json(self.config))
        if self.plan is None:
            (save_directory / PLAN).unlink(missing_ok=True)
        else:
            self.plan.save(save_directory / PLAN)

    def _save_weights(self, path: Path, metadata: dict[str, str]) -> None:
        module: nn.Module = self  # type: ignore[assignment]
        tensors = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
        with nullcontext() if self.mapping is None else self.mapping.released():
            save_tensors(tensors, path, metadata)

    @classmethod
    def _from_pretrained(  # type: ignore[override]  # named options instead of any
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        plan: Plan | None = None,
        mapped: bool = False,
    ) -> Self:
        def fetched(name: str) -> Path:
            if os.path.isdir(model_id):
                return Path(model_id) / name
            try:
                path = hf_hub_download(
                    model_id,
                    name,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            except (OSError, ValueError) as error:  # what the Hub's own errors are
                problem = str(error).splitlines()[0]
                raise InputError(
                    f"{name} of {model_id!r} is neither in a folder nor on the Hub: {problem}",
                    remedy="check the name and the network",
                ) from error
            return Path(path)

        config = read_json(fetched(CONFIG), ModelConfig, what="model config", error=InputError)
        own_plan = None if config.plan_digest is None else Plan.load(fetched(PLAN))
        _check_plans(model_id, config, own_plan, plan)
        with torch.device("meta"):
            model: Any = cls(config, plan=own_plan)
        if mapped:
            model.mapping = _mapped_weights(fetched(WEIGHTS), config)
            tensors = {name: tensor.to(device, dtype) for name, tensor in model.mapping.tensors.items()}
        else:
            tensors = _read_weights(fetched(WEIGHTS), config, device, dtype)
        _assign(model, tensors, model_id)
        model.eval()
        return cast(Self, model)


def _check_plans(folder: str, config: ModelConfig, own: Plan | None, asked: Plan | None) -> None:
    if own is not None and (own.digest, own.layout) != (config.plan_digest, config.layout):
        raise CheckError(
            f"the plan in {folder!r} is {own.digest[:19]}, and the model was realized from "
            f"{str(config.plan_digest)[:19]}",
            remedy="put back the plan that it was saved with",
        )
    if asked is not None and asked.digest != config.plan_digest:
        raise CheckError(
            f"the weights in {folder!r} belong to the plan {config.plan_digest or 'none'}, not to {asked.digest}",
            remedy="realize the plan again, or name its own weights",
        )


def _read_weights(
    path: Path, config: ModelConfig, device: torch.device | str, dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Read the tensors of a weight file that belongs to the config."""
    with _opened(path, config, device) as file:
        # Copied: memory of the file is not aligned, and kernels then round differently.
        return {name: file.get_tensor(name).to(dtype, copy=True) for name in file.keys()}  # noqa: SIM118


def _mapped_weights(path: Path, config: ModelConfig) -> MappedTensors:
    """Map the tensors of a weight file that belongs to the config."""
    with _opened(path, config, "cpu"):
        return MappedTensors(path)


@contextmanager
def _opened(path: Path, config: ModelConfig, device: torch.device | str) -> Iterator[Any]:
    """Open a weight file that belongs to the config: its header is checked."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt", device=str(device)) as file:
            digest = (file.metadata() or {}).get("s2search.model", "none")
            if digest != config.digest:
                raise CheckError(
                    f"the weights {str(path)!r} belong to the model {digest[:19]}, and the config beside them is "
                    f"{config.digest[:19]}",
                    remedy="put back the files that were saved together",
                )
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the weights {str(path)!r} cannot be read: {error}", remedy="name a folder that save_pretrained wrote"
        ) from error


def _assign(model: nn.Module, tensors: dict[str, torch.Tensor], folder: str) -> None:
    """Make the tensors the model's parameters, every one of them."""
    expected = {name: parameter.shape for name, parameter in model.state_dict().items()}
    for name in sorted(expected.keys() ^ tensors.keys()):
        there = "lack" if name in expected else "have the unknown"
        raise InputError(f"the weights in {folder!r} {there} {name!r}", remedy="save the model again")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise InputError(
                f"{name!r} in {folder!r} has the shape {tuple(tensor.shape)}, not {tuple(expected[name])}",
                remedy="save the model again",
            )
    model.load_state_dict(tensors, assign=True)
