"""Every way in which a demonstration with mistakes can come about, one branch after another.

Before each answer token x, with probability `rate`, L wrong tokens are pushed and taken back, L
uniform on 1 .. `burst`, or on as many as there is room for below the length limit. The first is
uniform over the tokens 1 .. vocab-1 without x, the later ones over all of them. At the state where
the first is pushed the label is x; in every wrong state it is backspace, the number `vocab`.
"""

from collections.abc import Iterator

State = tuple[int, ...]
Records = tuple[tuple[State, int, State], ...]
"""(state, label, next state) of each time; the last next state is terminal."""


def demonstrations(
    answer: State, vocab: int, max_length: int, rate: float, burst: int
) -> Iterator[tuple[Records, float]]:
    """Every trajectory of one answer with its probability."""

    def from_here(at: int) -> Iterator[tuple[Records, float]]:
        if at == len(answer):
            yield (), 1.0
            return
        right = ((answer[:at], answer[at], answer[: at + 1]),)
        for mistake, share in mistakes(answer[:at], answer[at], vocab, max_length, rate, burst):
            for rest, probability in from_here(at + 1):
                yield mistake + right + rest, share * probability

    yield from from_here(0)


def mistakes(
    state: State, right: int, vocab: int, max_length: int, rate: float, burst: int
) -> Iterator[tuple[Records, float]]:
    """No mistake, or the records of one up to and including the last backspace."""
    longest = min(burst, max_length - 1 - len(state))
    others = [token for token in range(1, vocab) if token != right]
    if longest < 1 or not others:
        yield (), 1.0
        return
    yield (), 1.0 - rate
    for length in range(1, longest + 1):
        for wrong, share in strings(others, vocab, length):
            visited = [(*state, *wrong[:k]) for k in range(length + 1)]
            path = visited + visited[-2::-1]
            labels = [right] + [vocab] * (2 * length - 1)
            yield (
                tuple(zip(path, labels, path[1:], strict=False)),
                rate / longest * share,
            )


def strings(first: list[int], vocab: int, length: int) -> Iterator[tuple[State, float]]:
    """Every string of wrong tokens with its probability."""
    if length == 0:
        yield (), 1.0
        return
    for token in first:
        for rest, share in strings(list(range(1, vocab)), vocab, length - 1):
            yield (token, *rest), share / len(first)
