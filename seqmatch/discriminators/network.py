"""The scalar head that gives h(s_t, a_t) at every action.

h at time t is a function of (s_t, a_t) alone and therefore causal; at the stop token it is the
score of the whole answer, and its increments are log-ratios of single actions. What it reads is
`beside_policy`'s matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu, layer_norm
from torch.nn.utils.parametrizations import spectral_norm

from seqmatch.discriminators.pair_features import PairFeatures
from seqmatch.errors import ConfigError
from seqmatch.new_weights import seeded_weights

if TYPE_CHECKING:
    from seqmatch.policy import Policy

Form = Literal["logit", "airl"]
"""h itself, or h = g - log pi(a|s)."""
DEFAULT_WIDTH = 64


class Discriminator(nn.Module):
    """A multilayer perceptron on the normalised hidden state of s_t and embedding of a_t.

        x = [norm(hidden(s_t)), norm(embedding(a_t))],   g = MLP(x)
        h = g  (form "logit"),   h = g - log pi(a_t|s_t)  (form "airl", log pi without gradient)

    norm is layer norm without weights: embeddings are often a hundred times smaller than hidden
    states. Backspace has no embedding; a learnt vector stands for it. Computed in float32.

    Its last layer starts at 0, so h = 0 everywhere with the form "logit", where every reward with
    R(0) = 0 then starts at 0, and -log pi with the form "airl". Not so with spectral norm, which
    divides each weight by its largest singular value:
    then g is 1-Lipschitz in x from the start (ELU has slopes of at most 1), which bounds how sharp
    h can be. In training mode each forward pass moves the estimate of that value; use `eval()` for
    rewards.

    Source: arXiv 2403.12017, section on adversarial imitation; the form "airl": Fu et al. 2018
    (AIRL), equation 4; spectral norm: Miyato et al. 2018.
    """

    def __init__(
        self,
        state_size: int,
        action_size: int,
        *,
        width: int = DEFAULT_WIDTH,
        form: Form = "logit",
        has_spectral_norm: bool = False,
        has_deviation: bool = False,
        seed: int = 0,
    ) -> None:
        """Makes the layers; the global random generator is left alone.

        Args:
            state_size: Width of the policy's hidden states.
            action_size: Width of its input embeddings.
            width: Of the two hidden layers.
            form: What the network gives.
            has_spectral_norm: Whether each layer is divided by its largest singular value.
            has_deviation: Whether it also gives log V, for `bradley_terry_with_deviations`.
            seed: Of the new weights.
        """
        super().__init__()
        self.form: Form = form
        with seeded_weights(seed):
            self.backspace = nn.Parameter(torch.randn(action_size))
            self.first = nn.Linear(state_size + action_size, width)
            self.second = nn.Linear(width, width)
            self.last = nn.Linear(width, 2 if has_deviation else 1)
            nn.init.zeros_(self.last.bias)
            if has_spectral_norm:
                for layer in (self.first, self.second, self.last):
                    spectral_norm(layer)
            else:
                nn.init.zeros_(self.last.weight)

    @staticmethod
    def of(
        policy: Policy,
        *,
        width: int = DEFAULT_WIDTH,
        form: Form = "logit",
        has_spectral_norm: bool = False,
        has_deviation: bool = False,
        seed: int = 0,
    ) -> Discriminator:
        """Returns a new discriminator that fits a policy, on its device; arguments as above."""
        embedding: Tensor = policy.lm.get_input_embeddings().weight
        return Discriminator(
            policy.head_weight.shape[1],
            embedding.shape[1],
            width=width,
            form=form,
            has_spectral_norm=has_spectral_norm,
            has_deviation=has_deviation,
            seed=seed,
        ).to(policy.device)

    def forward(self, features: PairFeatures) -> Float[Tensor, "batch time"]:
        """Returns h at every action, 0 at padding.

        Raises:
            ConfigError: The form "airl" without log-probabilities.
        """
        return _placed(features, self._with_policy(features, self.score(self.embedded(features))))

    def scores_and_deviations(
        self, features: PairFeatures
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
        """Returns h and log V at every action, both 0 at padding.

        Raises:
            ConfigError: The network was made without a deviation, or as for h alone.
        """
        outputs = self._outputs(self.embedded(features))
        if outputs.shape[1] == 1:
            raise ConfigError("this discriminator gives no log V; make it with has_deviation")
        h = self._with_policy(features, outputs[:, 0])
        return _placed(features, h), _placed(features, outputs[:, 1])

    def embedded(self, features: PairFeatures) -> Float[Tensor, "pair feature"]:
        """Returns x, what the network reads of each pair."""
        states = features.states.to(self.backspace.dtype)
        actions = features.actions.to(self.backspace.dtype)
        actions = torch.where(features.is_backspace[:, None], self.backspace, actions)
        return torch.cat([_normed(states), _normed(actions)], dim=1)

    def score(self, embedded: Float[Tensor, "pair feature"]) -> Float[Tensor, " pair"]:
        """Returns g of each embedded pair: what gradient penalties are taken of."""
        return self._outputs(embedded)[:, 0]

    def _outputs(self, embedded: Float[Tensor, "pair feature"]) -> Float[Tensor, "pair output"]:
        outputs: Tensor = self.last(elu(self.second(elu(self.first(embedded)))))
        return outputs

    def _with_policy(
        self, features: PairFeatures, g: Float[Tensor, " pair"]
    ) -> Float[Tensor, " pair"]:
        if self.form == "logit":
            return g
        if features.log_probs is None:
            raise ConfigError(
                "the form 'airl' needs log pi(a|s); give pair_features the policy's values"
            )
        return g - features.log_probs.detach().to(g.dtype)


def _normed(vectors: Float[Tensor, "pair feature"]) -> Float[Tensor, "pair feature"]:
    return layer_norm(vectors, vectors.shape[1:])


def _placed(features: PairFeatures, each: Float[Tensor, " pair"]) -> Float[Tensor, "batch time"]:
    empty = each.new_zeros(features.is_action.shape)
    return empty.masked_scatter(features.is_action, each)
