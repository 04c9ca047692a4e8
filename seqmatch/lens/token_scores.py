"""h at every token of one answer, and what each token added to it: a heat map."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from seqmatch.discriminators import Discriminator, PairFeatures
from seqmatch.errors import ConfigError


@dataclass(frozen=True)
class TokenScores:
    """Of one answer, in nats."""

    h: Float[np.ndarray, " time"]
    """log P/Q of the answer up to and with each token."""
    increments: Float[np.ndarray, " time"]
    """h_t - h_{t-1} with h_{-1} = 0: log p_data(a_t|s_t) - log p_model(a_t|s_t) where h is exact
    and there was no backspace. Above 0: more the demonstrator's than the model's."""


@torch.no_grad()
def token_scores(discriminator: Discriminator, features: PairFeatures) -> TokenScores:
    """Returns the scores of one answer by a probe or by a run's own discriminator.

    Args:
        discriminator: Any; in evaluation mode.
        features: Of one answer: `Eyes.features` for a probe, the policy's own `pair_features` for a
            discriminator that was trained beside it.

    Raises:
        ConfigError: The features are not those of one answer.

    Source: the identity of increments, docs/method.md, D12.
    """
    if features.is_action.shape[0] != 1:
        raise ConfigError(f"features of {features.is_action.shape[0]} answers; allowed: of one")
    h = discriminator(features)[features.is_action].double().cpu().numpy()
    return TokenScores(h=h, increments=np.diff(h, prepend=0.0))
