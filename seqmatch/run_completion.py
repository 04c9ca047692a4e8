"""What a batch of a round needs between the policy's forward pass and its loss, in a run."""

from collections.abc import Sequence
from typing import Any

from seqmatch.config import RunConfig
from seqmatch.discriminators.player import SeenPass
from seqmatch.phase_times import PhaseTimes
from seqmatch.round_terms import (
    BatchTerms,
    Complete,
    RoundFindings,
    findings_of_round,
    terms_of_passes,
)
from seqmatch.run_batches import Batch, older_answers, seen_without_gradient
from seqmatch.training_state import TrainState


def completing(
    config: RunConfig,
    state: TrainState,
    batch: Batch,
    max_positions: int,
    phases: PhaseTimes[Any],
) -> Complete | None:
    """Returns what finds the terms of a batch, or None where it has no answers of a round.

    It may be called again for the same step: a batch that memory cuts anew teaches nothing twice.

    Args:
        config: The run's.
        state: Where the run is; its discriminator learns at the first call.
        batch: The batch of this step.
        max_positions: Input positions that go through the policy at once.
        phases: Counts the time to the phase `discriminator`.
    """
    if not batch.answers:
        return None
    found: RoundFindings | None = None

    def complete(seen: Sequence[SeenPass]) -> BatchTerms:
        nonlocal found
        with phases.during("discriminator"):
            if found is None:
                older = older_answers(config, state, len(batch.answers))
                found = findings_of_round(
                    seen,
                    policy=state.policy,
                    objective=config.objective,
                    answers=batch.answers,
                    player=state.player,
                    older=seen_without_gradient(state.policy, older, max_positions),
                    step=state.step,
                )
            return terms_of_passes(seen, batch.answers, found)

    return complete
