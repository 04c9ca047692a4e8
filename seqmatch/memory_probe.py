"""How many input positions a GPU holds in one pass: measured before a run, not reckoned.

The formula of `micro_batches` knows no kernels, no allocator and no neighbours on the device. Here
the device itself is asked, by passes of one row, two, four and so on.
"""

from collections.abc import Callable

import torch

from seqmatch.pass_mode import plain_passes
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory

SHARE_OF_FREE = 0.8
"""Of the memory that is free before a run. The rest is for what is not measured: pieces too small
to be used, the head of a discriminator, sampling. Chosen, not measured."""


def most_positions(
    peak_bytes: Callable[[int], int], *, longest: int, wanted: int, budget_bytes: float
) -> int:
    """Returns how many input positions may go through the policy at once.

    From `longest` on their number doubles while the peak is within the budget, up to the first that
    is `wanted` or more. Only such numbers are returned, so that a little more or less free memory
    does not cut the batches of a run in another way when it starts again.

    Args:
        peak_bytes: Runs a pass of so many positions and returns its peak of memory; raises
            `torch.OutOfMemoryError` where it does not fit.
        longest: Positions of the longest row. It is returned even where it does not fit: a row
            cannot be divided, and the first step will say so.
        wanted: Positions of the largest batch.
        budget_bytes: What the peak may be.
    """
    most = positions = longest
    while True:
        try:
            fits = peak_bytes(positions) <= budget_bytes
        except torch.OutOfMemoryError:
            fits = False
        if not fits:
            return most
        most = positions
        if most >= wanted:
            return most
        positions = 2 * most


def probing_row(policy: Policy, num_slots: int) -> Trajectory:
    """Returns a row that fills so many slots, at least 2; with backspace a token is taken back.

    Then it needs an explicit mask, which is the dearest attention.
    """
    space = policy.space
    token, other = [at for at in range(3) if at != space.eos_id][:2]
    num_standing = num_slots - 1
    undone: tuple[int, ...] = ()
    if space.has_backspace and num_standing > 1:
        undone, num_standing = (other, space.backspace_id), num_standing - 1
    actions = (*undone, *[token] * num_standing)
    return Trajectory((token,), actions, actions)


def run_passes(policy: Policy, row: Trajectory, num_rows: int, without_gradient: int) -> None:
    """Runs a pass of so many equal rows forward and backward; leaves no gradient.

    Before it comes one of `without_gradient` times as many rows without gradient; a plain one, as
    in evaluation, which takes the most.
    """
    try:
        with torch.no_grad(), plain_passes(policy):
            rows = [row] * (num_rows * without_gradient)
            policy.state_action_values(build_batch(rows, policy.space, device=policy.device))
        batch = build_batch([row] * num_rows, policy.space, device=policy.device)
        found = policy.state_action_values(batch)
        torch.autograd.backward(found.values.sum() + found.chosen_q.sum())
    finally:
        policy.zero_grad(set_to_none=True)


def positions_on_gpu(
    policy: Policy,
    *,
    longest: int,
    wanted: int,
    without_gradient: int,
    reserved_bytes: int,
    num_models: int = 1,
) -> int:
    """Returns how many input positions may go through a policy at once on its GPU.

    The only lines here that need one.

    Args:
        policy: The policy, set to the mode in which it is trained.
        longest: Positions of the longest row.
        wanted: Positions of the largest batch.
        without_gradient: How many times as many go through at once without gradient.
        reserved_bytes: What the run will still take beside its passes.
        num_models: Models of this size that hold a pass at the same time.
    """
    device, row = policy.device, probing_row(policy, longest)

    def peak_bytes(positions: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run_passes(policy, row, positions // longest, without_gradient)
        return torch.cuda.max_memory_allocated(device) - before

    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info(device)
    budget = (SHARE_OF_FREE * free_bytes - reserved_bytes) / num_models
    found = most_positions(peak_bytes, longest=longest, wanted=wanted, budget_bytes=budget)
    torch.cuda.empty_cache()
    return found
