"""The processes that train one run together: who this one is, and what they tell each other.

Every process runs the same deterministic program: the same seeds, the same batches, the same
decisions. What is divided is work, and what is joined are its results: parts of the batch, whose
gradients are added up; prompts, whose sampled answers are put in one list. So a run on several
processes is the run on one, up to the order of floating-point sums. Only the main process talks to
the owner of the run and writes files; what it finds alone (`World.from_main`) the others are told.

A process trains alone unless the environment says otherwise, with the variables that torchrun,
`accelerate launch` and the job's minder (`seqmatch.jobs.shim`) set.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from seqmatch.errors import ConfigError, PeerLostError
from seqmatch.micro_batches import share

Value = TypeVar("Value")
Row = TypeVar("Row")

RENDEZVOUS_VARIABLE = "SEQMATCH_RENDEZVOUS"
"""A file over which the processes of one machine find each other; without it, as torchrun does."""
BUCKET_BYTES = 64 << 20
"""So much of the gradients is added up at once."""
_LOST = "another process of this run cannot be reached"
_TIMEOUT = timedelta(hours=6)
"""How long a process waits for another. One that died is noticed at once, by its connections."""


class World:
    """The processes of a run. This one is alone: it is told nothing and shares nothing."""

    rank: int = 0
    """Number of this process, from 0: the main one."""
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True for the process that reports and writes."""
        return self.rank == 0

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Returns this process's part of some rows; the parts in order are the rows."""
        return share(rows, self.rank, self.size)

    def gather(self, value: Value) -> list[Value]:
        """Returns the values of all processes, in order."""
        return [value]

    def spread(
        self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Sequence[Value]]
    ) -> list[Value]:
        """Returns what `work` makes of the rows, each process working on its part of them."""
        own = self.share(rows)
        return [found for part in self.gather(work(own) if own else ()) for found in part]

    def from_main(self, work: Callable[[], Value]) -> Value:
        """Returns what the main process finds; the others wait, and raise what it raises."""
        return work()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, which is the same bits everywhere."""

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by the main process's."""

    def call(self, word: str) -> None:
        """Lets the others hear a word without waiting for them."""

    def has_heard(self, word: str) -> bool:
        """Tells whether a process has called the word."""
        del word
        return False


ALONE = World()


class Group(World):
    """Several processes, connected."""

    def __init__(self, rank: int, size: int, store: Any) -> None:
        """Takes part in the default process group of torch, which was made over `store`."""
        self.rank, self.size, self._store = rank, size, store

    def gather(self, value: Value) -> list[Value]:
        """Returns the values of all processes, in order; every process must call it."""
        found: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(found, value)
        return found

    def from_main(self, work: Callable[[], Value]) -> Value:
        """Returns what the main process finds; every process must call it."""
        told: list[Any] = [None, None]
        if self.is_main:
            try:
                told[0] = work()
            except Exception as error:  # noqa: BLE001 - every process must end as this one does
                told[1] = error
        sent = [told[0], None if told[1] is None else _portable(told[1])]
        with _peers():
            dist.broadcast_object_list(sent, src=0)
        if not self.is_main:
            told = sent
        if told[1] is not None:
            raise told[1]
        value: Value = told[0]
        return value

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes; every process must call it."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _peers():
                dist.all_reduce(flat)
            _copy_back(flat, bucket)

    @torch.no_grad()
    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by the main process's; every process must call it."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _peers():
                dist.broadcast(flat, src=0)
            _copy_back(flat, bucket)

    def call(self, word: str) -> None:
        """Lets the others hear a word without waiting for them."""
        self._store.set(word, "called")

    def has_heard(self, word: str) -> bool:
        """Tells whether a process has called the word; costs a look, no waiting."""
        with _peers():
            return bool(self._store.check([word]))


@contextmanager
def joined(device: str, environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """Connects the processes of a run for a while, and says which of them this is.

    Args:
        device: The config's; on GPUs the gradients go through NCCL, all else through gloo.
        environment: Variables of torchrun; by default this process's.

    Raises:
        ConfigError: The number of processes is not that of the config's devices.
        PeerLostError: The others cannot be reached.
    """
    given = os.environ if environment is None else environment
    size, rank = int(given.get("WORLD_SIZE", "1")), int(given.get("RANK", "0"))
    here = process_device(device, given)
    if size == 1:
        yield ALONE
        return
    is_gpu = here.type == "cuda"
    if is_gpu:
        torch.cuda.set_device(here)
    with _peers():
        store = _store(given, rank, size)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=_TIMEOUT,
        )
    try:
        yield Group(rank, size, store)
    except RuntimeError as error:
        if _is_of_a_peer(error):  # from one of torch's own sums, of sharded weights
            raise PeerLostError(f"{_LOST}: {error}") from error
        raise
    finally:
        with suppress(RuntimeError):  # of peers that are gone already
            dist.destroy_process_group()


def process_device(device: str, environment: Mapping[str, str] | None = None) -> torch.device:
    """Returns the device of this process among those that a config's `device` names.

    "auto" takes a GPU where there is one. Where a single "auto" or "cuda" stands for several
    processes, which they are of a launcher's, each takes the GPU of its number.

    Raises:
        ConfigError: It asks for a GPU that is not there, or for other processes than there are.
    """
    given = os.environ if environment is None else environment
    size, rank = int(given.get("LOCAL_WORLD_SIZE", "1")), int(given.get("LOCAL_RANK", "0"))
    names = device.split(",")
    if len(names) == 1:
        names *= size
    if len(names) != size:
        raise ConfigError(
            f"device {device!r} is {len(names)} processes, and {size} started on this machine; "
            f"start {len(names)}, for example with `accelerate launch --multi_gpu "
            f"--num_processes {len(names)}`"
        )
    kind, _, number = names[rank].partition(":")
    num_gpus = torch.cuda.device_count()
    if kind == "cpu" or (kind == "auto" and not num_gpus):
        return torch.device("cpu")
    is_any = not number and size > 1
    index = rank if is_any else int(number or 0)
    if index >= num_gpus:
        raise ConfigError(
            f"device is {device!r}, but this machine has {num_gpus} CUDA devices; "
            "'auto' or 'cpu' always work"
        )
    return torch.device("cuda", index) if number or is_any else torch.device("cuda")


def _store(environment: Mapping[str, str], rank: int, size: int) -> Any:
    """The store of keys over which the processes meet."""
    path = environment.get(RENDEZVOUS_VARIABLE)
    place = f"file://{path}" if path else "env://"
    store, _, _ = next(iter(rendezvous(place, rank, size, timeout=_TIMEOUT)))
    return store


@contextmanager
def _peers() -> Iterator[None]:
    """Makes one error of all that torch raises where another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLostError(f"{_LOST}: {error}") from error


def _is_of_a_peer(error: RuntimeError) -> bool:
    """Tells whether torch raised this because a process is gone; gloo is known by its words."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot cross to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever an exception's own pickling raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of one type and of about `BUCKET_BYTES`, in order."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def _copy_back(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()
