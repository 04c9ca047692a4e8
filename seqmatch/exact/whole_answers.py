"""Laws and occupancies by brute force: whole answers one by one, or a dense linear solve.

What `output_law` and `occupancy` find by recursions over the tree is found here without using that
the states are a tree; slower, and held against them in front of the user.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqmatch.divergences import Divergence
from seqmatch.exact.token_chain import TokenChain

MAX_DENSE = 600
"""States, at most, of a dense solve."""


def is_small_enough(chain: TokenChain) -> bool:
    """Tells whether brute force takes a moment only: without backspace always."""
    return not chain.has_backspace or chain.num_states <= MAX_DENSE


def law_by_brute_force(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> Float[Tensor, " terminal"]:
    """Computes the probability of each answer, in the order of `chain.terminal`.

    Without backspace the product of the probabilities along the answer. With it, the probability
    of being absorbed there: (I - P)^-1 over the states that are alive.
    """
    if chain.has_backspace:
        steps = _transition_matrix(chain, log_probs)
        alive = torch.eye(len(chain.alive), dtype=steps.dtype) - steps[chain.alive][:, chain.alive]
        start = torch.zeros(len(chain.alive), dtype=steps.dtype)
        start[0] = 1.0
        visits: Tensor = torch.linalg.solve(alive.T, start)
        return visits @ steps[chain.alive][:, chain.terminal]
    states, tokens, is_token = _paths(chain)
    return log_probs.exp()[states, tokens].where(is_token, 1.0).prod(dim=1)


def occupancy_by_brute_force(
    chain: TokenChain, log_probs: Float[Tensor, "state action"], discount: float
) -> Float[Tensor, "state action"]:
    """Computes rho(s, a), the absorbed mass on the stop token of terminal states.

    Without backspace each answer of probability P adds (1 - gamma) gamma^t P at its t-th token and
    gamma^N P at its end. With it, a dense solve of (I - gamma P^T) rho = (1 - gamma) mu_0.
    """
    if chain.has_backspace:
        steps = _transition_matrix(chain, log_probs)
        start = torch.zeros(len(steps), dtype=steps.dtype)
        start[0] = 1.0 - discount
        system = torch.eye(len(steps), dtype=steps.dtype) - discount * steps.T
        visits: Tensor = torch.linalg.solve(system, start)
        return visits[:, None] * log_probs.exp()
    law = law_by_brute_force(chain, log_probs)
    states, tokens, is_token = _paths(chain)
    weights = (1.0 - discount) * discount ** torch.arange(states.shape[1], dtype=law.dtype)
    rho = torch.zeros(chain.exists.shape, dtype=law.dtype)
    adds = (law[:, None] * weights)[is_token]
    rho = rho.index_put((states[is_token], tokens[is_token]), adds, accumulate=True)
    ends = law * discount ** chain.depth[chain.terminal].to(law.dtype)
    return rho.index_put((chain.terminal, torch.zeros_like(chain.terminal)), ends, accumulate=True)


def divergence_by_definition(
    divergence: Divergence, p: Float[Tensor, "*shape"], q: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Computes sum of p f(q/p), and lim f(u)/u times what q has where p is 0."""
    in_data = p > 0
    value = (p[in_data] * divergence.generator(q[in_data] / p[in_data])).sum()
    outside = q[~in_data].sum()
    return value + divergence.at_infinity * outside if outside > 0 else value


def _transition_matrix(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> Float[Tensor, "state state"]:
    rows = torch.arange(chain.num_states)[:, None].expand_as(chain.next_state)
    matrix = torch.zeros(chain.num_states, chain.num_states, dtype=log_probs.dtype)
    return matrix.index_put((rows, chain.next_state), log_probs.exp(), accumulate=True)


def _paths(chain: TokenChain) -> tuple[Int[Tensor, "..."], Int[Tensor, "..."], Tensor]:
    """The state before each token of each answer, the token, and where there is one."""
    shape = len(chain.terminal), chain.max_length
    states, tokens = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    is_token = torch.zeros(shape, dtype=torch.bool)
    for row, number in enumerate(chain.terminal.tolist()):
        answer = chain.states[number]
        for time, token in enumerate(answer):
            states[row, time] = chain.index[answer[:time]]
            tokens[row, time] = token
            is_token[row, time] = True
    return states, tokens, is_token
