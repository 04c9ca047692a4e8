"""The registry of divergences between the policy's and the demonstrator's occupancy measures.

Conventions, once: P = data, Q = model, u = Q/P (model over data), h = log(P/Q) = -log u.
D = E_P[f(u)] with a normalised generator, f(1) = f'(1) = 0. SequenceMatch maximises
E_P[phi(r)] - E_Q[r] over rewards r, and phi(x) = -f*(-x) is concave with phi(0) = 0, phi'(0) = 1,
phi''(0) = -1/f''(1); the supremum is D and the best reward r* = -f'(u) satisfies phi'(r*) = u. So
every entry tends to discounted maximum likelihood as alpha -> 0. All logs are natural.

A new divergence is one record in `catalogue`; forms, configs, documents and tests read
`DIVERGENCES`. The functions take tensors; torch is not imported.
"""

from seqmatch.divergences.record import Divergence, Family
from seqmatch.divergences.registry import DIVERGENCES, divergences_of, get_divergence

__all__ = ["DIVERGENCES", "Divergence", "Family", "divergences_of", "get_divergence"]
