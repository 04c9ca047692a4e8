"""Settings, trajectories and expected losses that the tests of SequenceMatch share."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmatch.divergences import divergences_of, get_divergence
from seqmatch.objectives import SequenceMatchConfig
from seqmatch.types import StateActionValues
from tests.oracles import sequence_match as oracle
from tests.random_trajectories import Rows, arrays

GAMMA, ALPHA = 0.9, 0.05
MIXTURE = "chi_square_mixture"
NAMES = list(divergences_of("sequence_match"))
OPTIONS = [
    oracle.DEFAULT,
    oracle.Options(mixture_data=0.4, mixture_model=0.1),
    oracle.Options(mixture_data=0.0, mixture_model=0.7, clip=0.1),
    oracle.Options(clip=0.08),
]

every = pytest.mark.parametrize("name", NAMES)
plain = pytest.mark.parametrize(
    "name", [name for name in NAMES if not get_divergence(name).uses_mixture]
)
each_estimator = pytest.mark.parametrize("estimator", ["telescoped", "paper"])
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def settings(name: str = MIXTURE, **more: object) -> SequenceMatchConfig:
    return SequenceMatchConfig.model_validate(
        {"divergence": name, "alpha": ALPHA, "discount": GAMMA, **more}
    )


def with_options(name: str, options: oracle.Options, **more: object) -> SequenceMatchConfig:
    return settings(
        name,
        mixture_data=options.mixture_data,
        mixture_model=options.mixture_model,
        reward_clip=options.clip,
        **more,
    )


def targets(data: Rows, seed: int) -> list[list[float]]:
    """Values of next states that a target network might give, N a row."""
    rng = np.random.default_rng(seed)
    return [rng.normal(1.0, 1.0, len(labels)).tolist() for _, labels in data]


def with_targets(batch: StateActionValues, found: list[list[float]]) -> StateActionValues:
    """The padding is rubbish on purpose."""
    width = batch.is_action.shape[1]
    padded = [[*row, *[1e6] * (width - len(row))] for row in found]
    return replace(batch, next_values=torch.tensor(padded, dtype=torch.float64))


def minus_equation_4(
    name: str,
    data: Rows,
    model: Rows,
    options: oracle.Options = oracle.DEFAULT,
    data_next: list[list[float]] | None = None,
    model_next: list[list[float]] | None = None,
) -> float:
    """The mean of -J over pairs, the mixture's penalty included."""
    losses = []
    for at, (d, m) in enumerate(zip(arrays(data), arrays(model), strict=True)):
        ahead = None if data_next is None else data_next[at]
        other = None if model_next is None else model_next[at]
        j = oracle.equation_4(name, d, m, GAMMA, ALPHA, options, ahead, other)
        if get_divergence(name).uses_mixture:
            j -= oracle.mixture_penalty(m, GAMMA, ALPHA, options, other)
        losses.append(-j)
    return float(np.mean(losses))
