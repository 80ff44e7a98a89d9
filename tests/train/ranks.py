"""Several processes of one run: copies of this one, since importing torch anew takes most of the time of others."""

from __future__ import annotations

import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable, Mapping

import torch


def free_port() -> str:
    """A port that nobody listens on, another one every time."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def ranks(count: int, work: Callable[[], None]) -> None:
    """Do the same in so many processes, which torchrun might have started."""
    environment = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(count)}
    environment["MASTER_PORT"] = free_port()
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=_rank, args=(work, {**environment, "RANK": place, "LOCAL_RANK": place}))
        for place in map(str, range(count))
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which copies lack; none holds a lock here
            for process in started:
                process.start()
        for process in started:
            process.join(120)
            assert process.exitcode == 0
    finally:
        for process in started:
            process.kill()
            process.join()


def _rank(work: Callable[[], None], environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    work()
