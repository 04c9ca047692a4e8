"""What a round of sampled answers looks like as a whole, in plain numbers: length and variety."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class RoundSummary:
    """What a round of sampled answers, or the demonstrations, look like as a whole."""

    mean_length: float
    """Mean number of actions of an answer."""
    distinct_2: float | None
    """Distinct bigrams over bigrams of all answers; None without a bigram. It falls as answers get
    more, so that it is compared between rounds of one size only."""
    most_common_share: float
    """Share of the most frequent whole answer among the answers to different prompts."""
    kl_to_reference: float | None = None
    """Mean estimate of KL(policy || reference) of whole answers, in nats; None if not known."""
    num_prompts: int | None = None
    """Different prompts, from which the error of the share is known; None: it counts as exact."""


def summarise(
    answers: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    kl_to_reference: float | None = None,
) -> RoundSummary:
    """Summarises answers.

    Args:
        answers: The actions of each answer, the stop token included.
        prompts: The prompt of each answer; a prompt may have several.
        kl_to_reference: Mean estimate of the KL to the reference, in nats per answer.

    Raises:
        ValueError: There is no answer, or answers and prompts are not equally many.
    """
    if not answers or len(answers) != len(prompts):
        raise ValueError(
            f"{len(answers)} answers to {len(prompts)} prompts; a round has at least one answer, "
            "and each its prompt"
        )
    return RoundSummary(
        mean_length=sum(map(len, answers)) / len(answers),
        distinct_2=_distinct_2(answers),
        most_common_share=_most_common_share(answers, prompts),
        kl_to_reference=kl_to_reference,
        num_prompts=len(set(map(tuple, prompts))),
    )


def _distinct_2(answers: Sequence[Sequence[int]]) -> float | None:
    """Computes the share of bigrams that are distinct; none reaches from an answer to the next."""
    bigrams = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(bigrams)) / len(bigrams) if bigrams else None


def _most_common_share(answers: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> float:
    """Computes the largest share of an answer; 0 where none was given to two prompts.

    Each prompt counts once, divided among its answers: a policy that is sure of its answer repeats
    it to one prompt, and that is no collapse. So the share expected of an answer does not depend
    on how many answers a prompt has.
    """
    answers_to = Counter(map(tuple, prompts))
    shares: defaultdict[tuple[int, ...], float] = defaultdict(float)
    num_prompts: Counter[tuple[int, ...]] = Counter()
    given = Counter(
        (tuple(prompt), tuple(answer)) for prompt, answer in zip(prompts, answers, strict=True)
    )
    for (prompt, answer), count in given.items():
        shares[answer] += count / answers_to[prompt]
        num_prompts[answer] += 1
    common = [shares[answer] for answer, count in num_prompts.items() if count > 1]
    return max(common, default=0.0) / len(answers_to)
