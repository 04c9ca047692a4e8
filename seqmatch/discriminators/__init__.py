"""Discriminators: h(s, a) = log rho_data/rho_model, their losses, regularisers and measures.

A library: the network (`network`), what it sees of a policy (`pair_features`), and functions of h
alone, on samples and on exact laws alike. The replay of older rollouts is
`seqmatch.replay_buffer`, which knows nothing of what it is replayed for.
"""

from seqmatch.discriminators.losses import (
    binary_cross_entropy,
    data_potential,
    variational_bound,
    variational_loss,
)
from seqmatch.discriminators.measures import accuracy, auc
from seqmatch.discriminators.network import Discriminator, Form
from seqmatch.discriminators.pair_features import PairFeatures, pair_features
from seqmatch.discriminators.pairs import (
    Pairs,
    all_pairs,
    bradley_terry,
    bradley_terry_with_deviations,
    log_ratio_offset,
    matched_pairs,
)
from seqmatch.discriminators.regularisers import (
    gradient_penalty,
    interpolated,
    may_update,
    r1_penalty,
)
from seqmatch.discriminators.scores import (
    WeightedScores,
    at_stop,
    token_weights,
    trajectory_weights,
)

__all__ = [
    "Discriminator",
    "Form",
    "PairFeatures",
    "Pairs",
    "WeightedScores",
    "accuracy",
    "all_pairs",
    "at_stop",
    "auc",
    "binary_cross_entropy",
    "bradley_terry",
    "bradley_terry_with_deviations",
    "data_potential",
    "gradient_penalty",
    "interpolated",
    "log_ratio_offset",
    "matched_pairs",
    "may_update",
    "pair_features",
    "r1_penalty",
    "token_weights",
    "trajectory_weights",
    "variational_bound",
    "variational_loss",
]
