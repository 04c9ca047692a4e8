"""The demonstrator of a small language: exact occupancies of its answers, also with mistakes.

Mistakes are those of `seqmatch.corruption`, over all tokens but the stop token: before each answer
token x, with probability eta and at most once, L wrong tokens are pushed and taken back, L uniform
on 1 .. burst or as many as there is room for. They lengthen the way, so that time and state depend
on each other; but all answers through a state share the way to it, so that

    W(s) = E[gamma^t at the first visit of s],   W(sx) = W(s) P(x|s) gamma E[gamma^{2L}]

(L = 0 without a mistake) gives the discounted mass of every transition in closed form (derived).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqmatch.errors import ConfigError
from seqmatch.exact.languages import STOP, Language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import data_law
from seqmatch.exact.token_chain import TokenChain


@dataclass(frozen=True, eq=False)
class Transitions:
    """Mass of every (state, label, next state) of a demonstrator or a policy, and of the ends."""

    states: Int[Tensor, " transition"]
    labels: Int[Tensor, " transition"]
    """What is asked of the policy; a mistake pushes something else."""
    next_states: Int[Tensor, " transition"]
    mass: Float[Tensor, " transition"]
    absorbed: Float[Tensor, " state"]
    """Mass of each terminal state; 0 at all others."""


@dataclass(frozen=True, eq=False)
class Demonstrator:
    """Answers of a language with mistakes that are taken back at once.

    Raises:
        ConfigError: Mistakes without backspace, or a rate, burst or discount outside its range.
    """

    language: Language
    chain: TokenChain
    noise_rate: float
    """eta, from 0, below 1; 0 without backspace."""
    burst: int
    """Wrong tokens in a row, at most; at least 1."""
    discount: float
    """gamma, above 0 and below 1."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise_rate < 1.0:
            raise ConfigError(f"noise rate {self.noise_rate}; allowed: from 0, below 1")
        if self.noise_rate and not self.chain.has_backspace:
            raise ConfigError(
                f"noise rate {self.noise_rate} without backspace; mistakes need it to be undone"
            )
        if self.burst < 1:
            raise ConfigError(f"bursts of up to {self.burst} tokens; allowed: at least 1")
        if not 0.0 < self.discount < 1.0:
            raise ConfigError(f"discount {self.discount}; allowed: above 0 and below 1")

    @staticmethod
    def of(language: Language, chain: TokenChain, burst: int = 1) -> "Demonstrator":
        """Returns the language's demonstrator: its noise rate where the chain has backspace."""
        rate = language.noise_rate if chain.has_backspace else 0.0
        return Demonstrator(language, chain, rate, burst, language.discount)

    def probs(self) -> Float[Tensor, "state action"]:
        """Returns P(x|s) of the language; rows that the data never reaches are 0."""
        mass = _prefix_mass(self.language, self.chain)
        probs = torch.zeros(self.chain.exists.shape, dtype=torch.float64)
        children = torch.arange(1, self.chain.num_states)
        parents = self.chain.parent[children]
        share = mass[children] / mass[parents]
        probs[parents, self.chain.last_token[children]] = share.nan_to_num(nan=0.0)
        probs[self.chain.is_terminal, STOP] = (mass[self.chain.is_terminal] > 0).double()
        return probs

    def clean_occupancy(self) -> Float[Tensor, "state action"]:
        """Returns rho_data(s, a) of the answers without mistakes; sums to 1.

        The absorbed mass stands as in `state_action_occupancy`.
        """
        return state_action_occupancy(self.chain, self.probs().log(), self.discount)

    def occupancy(self) -> Float[Tensor, "state action"]:
        """Returns rho(s, y) with mistakes, y the label; sums to 1, absorbed mass as above."""
        visits = self.visits(self.discount)
        rho = torch.zeros(self.chain.exists.shape, dtype=torch.float64)
        rho.index_put_(
            (visits.states, visits.labels), (1.0 - self.discount) * visits.mass, accumulate=True
        )
        rho[:, STOP] += visits.absorbed
        return rho

    def visits(self, discount: float) -> Transitions:
        """Computes E[sum_t gamma^t 1{(s_t, y_t, s_{t+1})}], and E[gamma^N 1{s_N}] of the ends.

        Args:
            discount: gamma, above 0; 1 counts transitions, and the ends are then the law of
                answers. Below 1, (1 - gamma) times the mass and the ends sum to 1.
        """
        return _visits(self, discount)


def _prefix_mass(language: Language, chain: TokenChain) -> Float[Tensor, " state"]:
    """The probability that an answer begins with each state."""
    mass = torch.zeros(chain.num_states, dtype=torch.float64)
    mass[chain.terminal] = data_law(chain, language)
    for depth in range(chain.max_length - 1, -1, -1):
        alive = chain.alive_levels[depth]
        mass[alive] = mass[chain.levels[depth + 1]].view(len(alive), -1).sum(dim=-1)
    return mass


def _visits(demonstrator: Demonstrator, discount: float) -> Transitions:
    chain, burst = demonstrator.chain, demonstrator.burst
    struck = _strike_rates(demonstrator)
    powers = discount ** (2.0 * torch.arange(burst + 1, dtype=torch.float64))
    delay = (struck * powers).sum(dim=-1)  # E[gamma^{2L}]
    chosen = _first_visits(demonstrator, delay, discount)

    states, labels = (chosen > 0).nonzero(as_tuple=True)
    right = (states, labels, chain.next_state[states, labels], (chosen * delay)[states, labels])
    parts = [right]
    if demonstrator.noise_rate:
        parts += _excursions(chain, chosen[..., None] * struck[..., 1:], discount)
    states, labels, next_states, mass = (torch.cat(column) for column in zip(*parts, strict=True))
    absorbed = torch.zeros(chain.num_states, dtype=torch.float64)
    absorbed[right[2]] = discount * right[3]
    absorbed[~chain.is_terminal] = 0.0
    return Transitions(states, labels, next_states, mass, absorbed)


def _strike_rates(demonstrator: Demonstrator) -> Float[Tensor, "state token length"]:
    """The probability of L = 0 .. burst wrong tokens before each token x in each state.

    No state gets longer than `max_length` - 1 without ending, and where the right token is the only
    one that could be pushed nothing strikes.
    """
    chain, burst = demonstrator.chain, demonstrator.burst
    room = (chain.max_length - 1 - chain.depth).clamp(min=0, max=burst)
    lengths = torch.arange(burst + 1)
    is_length = (lengths >= 1) & (lengths <= room[:, None])
    rate = demonstrator.noise_rate * is_length.double() / room.clamp(min=1)[:, None]
    rates = rate[:, None, :] * (_num_wrong(chain) > 0)[:, None]
    rates[..., 0] = 1.0 - rates[..., 1:].sum(dim=-1)
    return rates


def _num_wrong(chain: TokenChain) -> Int[Tensor, " token"]:
    """How many tokens can be pushed in place of each: all but the stop token and itself."""
    return torch.tensor([chain.vocab - 1] + [chain.vocab - 2] * (chain.vocab - 1))


def _first_visits(
    demonstrator: Demonstrator, delay: Float[Tensor, "state token"], discount: float
) -> Float[Tensor, "state token"]:
    """W(s) P(x|s): the discounted mass of arriving in s for the first time, x being next."""
    chain = demonstrator.chain
    probs = demonstrator.probs()[:, : chain.vocab]
    probs[chain.is_terminal] = 0.0
    arrived = torch.zeros(chain.num_states, dtype=torch.float64)
    arrived[0] = 1.0
    for level in chain.levels[1:]:
        parents, tokens = chain.parent[level], chain.last_token[level]
        step = discount * probs[parents, tokens] * delay[parents, tokens]
        arrived[level] = arrived[parents] * step
    return arrived[:, None] * probs


Columns = tuple[Tensor, Tensor, Tensor, Tensor]


def _excursions(
    chain: TokenChain, strikes: Float[Tensor, "state token length"], discount: float
) -> list[Columns]:
    """The transitions of all mistakes: the first wrong token, the later ones, and the way back."""
    wrong = 1.0 - torch.eye(chain.vocab, dtype=torch.float64)
    wrong[:, STOP] = 0.0
    wrong /= _num_wrong(chain).clamp(min=1)[:, None]
    first = strikes.sum(dim=-1)[:, :, None] * wrong  # state, label, pushed token
    states, labels, pushed = (first > 0).nonzero(as_tuple=True)
    parts = [(states, labels, chain.next_state[states, pushed], first[states, labels, pushed])]

    onwards = torch.zeros(chain.num_states, dtype=torch.float64)  # by the state that is entered
    back = torch.zeros(chain.num_states, dtype=torch.float64)  # by the state that is left
    is_wrong = (chain.depth > 0) & ~chain.is_terminal
    for length in range(1, strikes.shape[-1] + 1):
        entering = strikes[..., length - 1] @ wrong
        corrupted = entering[chain.parent, chain.last_token] * is_wrong
        for place in range(1, length + 1):
            if place > 1:
                corrupted = corrupted[chain.parent] / (chain.vocab - 1) * is_wrong
                onwards += discount ** (place - 1) * corrupted
            back += discount ** (2 * length - place) * corrupted
    entered, left = onwards.nonzero().squeeze(1), back.nonzero().squeeze(1)
    undo = torch.full((chain.num_states,), chain.backspace)
    parts.append((chain.parent[entered], undo[entered], entered, onwards[entered]))
    parts.append((left, undo[left], chain.parent[left], back[left]))
    return parts
