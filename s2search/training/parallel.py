"""Networks on one processor or on many: where they are sharded, what is computed twice, and how they start.

PyTorch's own distributed engine carries it: `fully_shard` per layer and around the whole, gloo on processors and NCCL
on GPUs. A run in float32 on one process is not wrapped at all.

What `fully_shard` by itself leaves out, and is done here: methods beside `forward` that run weights (`commit`,
`advance`, `read_text`) gather them too; noise levels are not cast to bfloat16, which keeps .9375 of .9371; what was
gathered for an answer without a gradient is given back, so that the next one is by the weights as they are then.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from s2search.errors import CheckError, InputError

if TYPE_CHECKING:
    from s2search.training.base import Network
    from s2search.training.settings import EngineSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: What runs weights beside `forward`.
_METHODS = ("commit", "advance", "read_text")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: This one, from 0.
        count: All.
        device: Of this one.
        sharded: Whether networks are wrapped.
    """

    rank: int
    count: int
    device: torch.device
    sharded: bool

    @property
    def first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have come here.

        Raises:
            CheckError: One of them has ended.
        """
        if self.count > 1:
            try:
                dist.barrier()
            except RuntimeError as error:  # gloo's own says who closed a connection
                raise CheckError(
                    "another process of this run has ended", remedy="repeat the command: it goes on with what is done"
                ) from error

    def agreed(self, flag: bool) -> bool:
        """Return whether any process raised a flag; all get the same answer."""
        if self.count == 1:
            return flag
        found = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values = values / self.count
        return values

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, in the order of their ranks; all have the same number."""
        if self.count == 1:
            return rows
        found = [torch.empty_like(rows, device=self.device) for _ in range(self.count)]
        dist.all_gather(found, rows.to(self.device))
        return torch.cat(found).cpu()


#: A run that is not divided.
ALONE = Processes(rank=0, count=1, device=torch.device("cpu"), sharded=False)


@contextmanager
def processes(settings: EngineSettings) -> Iterator[Processes]:
    """Join the processes that torchrun started; without it there is one.

    Raises:
        InputError: There is no such device.
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    rank, count = (int(os.environ[name]) if launched else default for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    device = device_of(settings.device, int(os.environ.get("LOCAL_RANK", 0)) if launched else None)
    sharded = count > 1 or settings.dtype != "float32"
    if not sharded:
        yield Processes(rank=0, count=1, device=device, sharded=False)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if launched:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            # A velocity is a view of what the head returned; nothing is written into it.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
            yield Processes(rank=rank, count=count, device=device, sharded=True)
    finally:
        dist.destroy_process_group()


def started(network: Network, where: Processes, settings: EngineSettings) -> nn.Module:
    """Return a network on its device with its first weights; each process reads what it keeps.

    Raises:
        InputError: Its file lacks a weight, or has one of another shape.
    """
    module = network.module
    layers = list(getattr(module, "layers", ()))
    if settings.recompute and network.trained:
        for layer in layers:
            recomputed(layer)
    if where.sharded:
        policy = MixedPrecisionPolicy(
            param_dtype=DTYPES[settings.dtype], reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for part in (*layers, module):
            # By default the whole would keep what it gathered, and answer with that after its weights have moved.
            fully_shard(part, mp_policy=policy, reshard_after_forward=True)
            for name in _METHODS:
                if hasattr(part, name):
                    register_fsdp_forward_method(part, name)
    module.to_empty(device=where.device)
    load(dict(module.state_dict()), network.weights, where)
    module.requires_grad_(network.trained)
    if settings.compile:
        for layer in layers:
            layer.compile()
    return module


def recomputed(layer: nn.Module) -> None:
    """Let a layer keep its inputs alone for the backward pass; its weights keep their names."""
    for name in ("forward", "commit", "advance"):
        if hasattr(layer, name):
            own = getattr(layer, name)
            setattr(layer, name, partial(checkpoint, own, use_reentrant=False, preserve_rng_state=False))


def load(tensors: Mapping[str, Tensor], folder: Path, where: Processes) -> None:
    """Fill tensors from a folder's safetensors files, whole or in shards of any number of processes.

    Raises:
        InputError: It cannot be read, or a tensor is missing or of another shape.
    """
    try:
        with _one_process_is_enough():
            load_sharded(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not where.sharded)
    except CheckpointException as error:
        problem = next(iter(error.failures.values()))[0]
        raise InputError(f"the weights in {str(folder)!r} cannot be read: {problem}", remedy="restore them") from error


def local(tensor: Tensor) -> Tensor:
    """Return what this process keeps of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with what all processes keep of it; all must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def saved(tensors: Mapping[str, Any], folder: Path, where: Processes) -> None:
    """Write tensors as safetensors files, each process what it keeps.

    Raises:
        OSError: The disk does not take them.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        with _one_process_is_enough():
            save_sharded(dict(tensors), storage_writer=writer, no_dist=not where.sharded)
    except CheckpointException as error:
        raise OSError(str(next(iter(error.failures.values()))[0])) from error


@contextmanager
def _one_process_is_enough() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def device_of(name: str, local_rank: int | None = None) -> torch.device:
    """Return a device to compute on, by its name.

    Args:
        name: `cpu`, `cuda`, `cuda:1`.
        local_rank: Of a process that torchrun started, which takes the GPU of that number.

    Raises:
        InputError: There is none.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"there is no device {name!r}", allowed="cpu, cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"nothing is trained on the device {name!r}", allowed="cpu, cuda")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError("there is no CUDA device here", remedy="choose cpu")
        if local_rank is not None:
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
    return device
