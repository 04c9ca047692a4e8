"""The losses against equation 4 written out term by term, and against exact identities."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from seqmatch.divergences import DIVERGENCES, divergences_of
from seqmatch.errors import ConfigError
from seqmatch.metrics import METRICS
from seqmatch.objectives import (
    CONFIGS,
    OBJECTIVES,
    SequenceMatchConfig,
    SFTConfig,
    beta_at,
    needs_rollouts,
    objective_loss,
    sequence_match_loss,
    sft_loss,
)
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.types import StateActionValues
from tests.oracles import sequence_match as oracle

GAMMA, ALPHA = 0.9, 0.05
Rows = list[tuple[torch.Tensor, list[int]]]

every = pytest.mark.parametrize("name", list(divergences_of("sequence_match")))
plain = pytest.mark.parametrize(
    "name",
    [name for name, entry in divergences_of("sequence_match").items() if not entry.uses_mixture],
)


def settings(name: str = "chi_square_mixture", **more: object) -> SequenceMatchConfig:
    return SequenceMatchConfig.model_validate(
        {"divergence": name, "alpha": ALPHA, "discount": GAMMA, **more}
    )


def rows(seed: int, start: torch.Tensor | None = None, lengths: tuple[int, ...] = (3, 5)) -> Rows:
    """Random logits, N + 1 states a row; `start` is the first state's row where it is shared."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        logits = torch.randn(length + 1, 4, dtype=torch.float64, generator=generator)
        if start is not None:
            logits[0] = start
        labels = torch.randint(0, 4, (length,), generator=generator).tolist()
        made.append((logits.requires_grad_(), labels))
    return made


def values(data: Rows, dtype: torch.dtype = torch.float64) -> StateActionValues:
    """Pads the rows into one batch; the padding is rubbish on purpose."""
    longest = max(len(labels) for _, labels in data)
    chosen = torch.full((len(data), longest), 1e6, dtype=dtype)
    value = torch.full((len(data), longest + 1), -1e6, dtype=dtype)
    is_action = torch.zeros(len(data), longest, dtype=torch.bool)
    for row, (logits, labels) in enumerate(data):
        chosen[row, : len(labels)] = logits[range(len(labels)), labels].to(dtype)
        value[row, : len(labels) + 1] = logits.logsumexp(1).to(dtype)
        is_action[row, : len(labels)] = True
    return StateActionValues(chosen, value, is_action)


def arrays(data: Rows) -> list[tuple[np.ndarray, list[int]]]:
    return [(logits.detach().numpy(), labels) for logits, labels in data]


def gradients(loss: torch.Tensor, data: Rows) -> list[torch.Tensor]:
    leaves = [logits for logits, _ in data]
    found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, found, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chi_square_pearson", 0.8933445199),
        ("reverse_kl", 1.1541264711),
        ("forward_kl", 1.2662544411),
        ("jensen_shannon", 2.3165947270),
    ],
)
@pytest.mark.parametrize("estimator", ["telescoped", "paper"])
def test_numeric_fixture(name: str, expected: float, estimator: str) -> None:
    """The SequenceMatch fixture of the method's notes; the model's trajectory is the data's."""
    logits = torch.tensor([[1.0, 0, -1], [0.5, 2, 0], [0, 0, 1]], dtype=torch.float64)
    data = values([(logits, [0, 1])])
    config = settings(name, alpha=0.5, estimator=estimator)
    along = temporal_differences(data, 0.9)

    output = sequence_match_loss(data, data if estimator == "paper" else None, config)

    np.testing.assert_allclose(data.values[0], [1.40760596, 2.30635571, 1.55144471], atol=1e-8)
    np.testing.assert_allclose(along.td[0], [-1.07572014, 0.60369976], atol=1e-8)
    assert float(along.discounted_sum(along.nll)) == pytest.approx(0.6833261055, abs=1e-8)
    assert float(output.loss) == pytest.approx(expected, abs=1e-8)


@every
@pytest.mark.parametrize("estimator", ["telescoped", "paper"])
def test_d4_loss_is_minus_equation_4(name: str, estimator: str) -> None:
    """Both estimators on complete trajectories from one start; the oracle adds the mixture."""
    start = torch.randn(4, dtype=torch.float64)
    data, model = rows(0, start), rows(1, start)

    found = sequence_match_loss(values(data), values(model), settings(name, estimator=estimator))

    pairs = zip(arrays(data), arrays(model), strict=True)
    expected = -np.mean([oracle.equation_4(name, d, m, GAMMA, ALPHA) for d, m in pairs])
    if DIVERGENCES[name].uses_mixture:
        expected += np.mean([oracle.mixture_penalty(m, GAMMA, ALPHA) for m in arrays(model)])
    assert float(found.loss) == pytest.approx(expected, abs=1e-10)


@every
def test_d4_paper_estimator_is_equation_4_from_different_starts(name: str) -> None:
    data, model = rows(0), rows(1)

    found = sequence_match_loss(values(data), values(model), settings(name, estimator="paper"))

    pairs = zip(arrays(data), arrays(model), strict=True)
    expected = -np.mean([oracle.equation_4(name, d, m, GAMMA, ALPHA) for d, m in pairs])
    if DIVERGENCES[name].uses_mixture:
        expected += np.mean([oracle.mixture_penalty(m, GAMMA, ALPHA) for m in arrays(model)])
    assert float(found.loss) == pytest.approx(expected, abs=1e-10)


def test_d4_estimators_differ_by_half_the_difference_of_start_values() -> None:
    data, model = rows(0), rows(1)
    kept = settings("chi_square_pearson")

    telescoped = sequence_match_loss(values(data), None, kept).loss
    paper = sequence_match_loss(
        values(data), values(model), kept.model_copy(update={"estimator": "paper"})
    ).loss

    starts = [
        torch.stack([logits[0].logsumexp(0) for logits, _ in r]).mean() for r in (data, model)
    ]
    torch.testing.assert_close(paper - telescoped, (starts[1] - starts[0]) / 2)


@plain
def test_d4_model_samples_have_no_gradient_beyond_the_start(name: str) -> None:
    data, model = rows(0), rows(1)

    loss = sequence_match_loss(values(data), values(model), settings(name, estimator="paper")).loss

    for gradient in gradients(loss, model):
        assert float(gradient[0].abs().max()) > 1e-3
        assert float(gradient[1:].abs().max()) < 1e-12


def test_chi_square_is_discounted_nll_plus_squared_td() -> None:
    """The closed form, summed by hand in numpy."""
    data = rows(2)

    found = sequence_match_loss(values(data), None, settings("chi_square_pearson")).loss

    expected = []
    for logits, labels in arrays(data):
        td, n = oracle.soft_td(logits, labels, GAMMA), len(labels)
        total = oracle.discounted_nll((logits, labels), GAMMA)
        total += sum(GAMMA**t * ALPHA / 4 * d**2 for t, d in enumerate(td))
        total += ALPHA / 4 * GAMMA**n * (1 - GAMMA) * oracle.soft_values(logits)[n] ** 2
        expected.append(total)
    assert float(found) == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_d3_values_telescope_along_every_trajectory() -> None:
    data = rows(3, lengths=(1, 4, 7))

    found = temporal_differences(values(data), GAMMA).value_sum()

    starts = [oracle.soft_values(logits)[0] for logits, _ in arrays(data)]
    assert float(found) == pytest.approx(float(np.mean(starts)), abs=1e-12)


@plain
def test_d6_tends_to_discounted_likelihood_at_its_rate(name: str) -> None:
    """D6: the gradient's difference is alpha E[d grad d] / f''(1) + O(alpha^2)."""
    data = rows(4)
    batch = values(data)
    along = temporal_differences(batch, GAMMA)
    likelihood = gradients(along.discounted_sum(along.nll), data)
    curvature = DIVERGENCES[name].second_derivative
    assert curvature is not None
    quadratic = along.discounted_sum(along.td.square() / (2 * curvature))
    end = along.discounted_end((1 - GAMMA) * along.end_value.square() / (2 * curvature))
    slope = gradients(quadratic + end, data)

    for alpha in (1e-3, 1e-4):
        loss = sequence_match_loss(batch, None, settings(name, alpha=alpha)).loss
        for got, limit, rate in zip(gradients(loss, data), likelihood, slope, strict=True):
            assert float((got - limit - alpha * rate).abs().max()) < 100 * alpha**2
            assert float((got - limit).abs().max()) > alpha * float(rate.abs().max()) / 2


def test_d6_mixture_equals_its_second_derivative_where_rollouts_are_data() -> None:
    """With rollouts = data the penalty is alpha d^2 / (2 f''(1)), f''(1) = 1 for the mixture."""
    batch = values(rows(4))
    along = temporal_differences(batch, GAMMA)

    terms = sequence_match_loss(batch, batch, settings()).terms

    expected = along.discounted_sum(ALPHA * along.td.square() / 2)
    torch.testing.assert_close(
        terms["train/data_penalty"] + terms["train/mixture_penalty"], expected.detach()
    )


@every
def test_d21_likelihood_ignores_offsets_and_sequence_match_does_not(name: str) -> None:
    data, model = rows(5), values(rows(6))
    moved = [(logits + torch.randn(len(logits), 1).double(), y) for logits, y in data]
    config = settings(name)

    torch.testing.assert_close(sft_loss(values(moved)).loss, sft_loss(values(data)).loss)
    before = sequence_match_loss(values(data), model, config).loss
    after = sequence_match_loss(values(moved), model, config).loss
    assert abs(float(after - before)) > 1e-4


def test_d18_summed_loss_is_proper_and_the_mean_over_lengths_is_not() -> None:
    """Geometric language with P(stop) = 1/2: the minimiser is 1/2; ln 2 if each row is averaged."""
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    lengths = range(1, 40)
    probabilities = torch.tensor([0.5**n for n in lengths], dtype=torch.float64)

    def losses() -> torch.Tensor:
        each = []
        state = torch.stack([logit, -logit])  # go on, stop
        for n in lengths:
            labels = [0] * (n - 1) + [1]
            each.append(sft_loss(values([(state.expand(n + 1, 2), labels)])).loss)
        return torch.stack(each)

    def minimiser(weights: torch.Tensor) -> float:
        with torch.no_grad():
            logit.zero_()
        for _ in range(60):  # Newton's method on a convex function of one variable
            (slope,) = torch.autograd.grad((weights * losses()).sum(), logit, create_graph=True)
            (curvature,) = torch.autograd.grad(slope, logit)
            with torch.no_grad():
                step = slope / curvature
                logit.sub_(step)
            if abs(float(step)) < 1e-12:
                break
        return float(torch.sigmoid(-2 * logit))

    assert minimiser(probabilities) == pytest.approx(0.5, abs=1e-9)
    per_length = probabilities / torch.tensor(list(lengths), dtype=torch.float64)
    assert minimiser(per_length) == pytest.approx(math.log(2), abs=1e-9)


def test_sft_sums_over_tokens_and_averages_over_sequences() -> None:
    data = rows(7, lengths=(2, 6))

    output = sft_loss(values(data))

    each = [oracle.discounted_nll(row, 1.0) for row in arrays(data)]
    assert float(output.loss) == pytest.approx(sum(each) / 2)
    assert float(output.terms["train/nll"]) == pytest.approx(sum(each) / 8)


@every
@pytest.mark.parametrize("estimator", ["telescoped", "paper"])
def test_terms_are_registered_and_add_up(name: str, estimator: str) -> None:
    data, model = values(rows(8)), values(rows(9))
    config = settings(name, estimator=estimator)

    output = objective_loss(config, data, model, 0.3)

    terms = output.terms
    assert terms.keys() <= METRICS.keys()
    assert not any(value.requires_grad for value in terms.values())
    torch.testing.assert_close(terms["train/loss"], output.loss.detach())
    mixed = 0.3 * terms["train/bc_loss"] + 0.7 * terms["train/sm_loss"]
    torch.testing.assert_close(terms["train/loss"], mixed)
    if estimator == "telescoped":
        along = temporal_differences(data, GAMMA)
        total = along.discounted_sum(along.nll).detach() + terms["train/data_penalty"]
        total = total + terms["train/terminal_penalty"] + terms.get("train/mixture_penalty", 0.0)
        torch.testing.assert_close(terms["train/sm_loss"], total)
    for penalty in ("train/data_penalty", "train/terminal_penalty"):
        assert float(terms[penalty]) >= 0.0


@every
def test_padding_and_batching_change_nothing(name: str) -> None:
    data, model = rows(10, lengths=(2, 7, 4)), rows(11, lengths=(5, 1, 3))
    config = settings(name)

    together = sequence_match_loss(values(data), values(model), config).loss
    apart = [
        sequence_match_loss(values([d]), values([m]), config).loss
        for d, m in zip(data, model, strict=True)
    ]

    torch.testing.assert_close(together, torch.stack(apart).mean())
    assert all(torch.isfinite(gradient).all() for gradient in gradients(together, data))


@every
def test_loss_and_gradient_are_finite_in_float32_far_from_the_data(name: str) -> None:
    far = [((1e4 * logits).detach().requires_grad_(), labels) for logits, labels in rows(12)]
    config = settings(name, alpha=1.0)

    loss = sequence_match_loss(values(far, torch.float32), values(far, torch.float32), config).loss

    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, far))


def test_gradient_goes_through_the_next_value() -> None:
    """No stop-gradient: finite differences of the whole loss."""
    data, labels = rows(13, lengths=(3,))[0]

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return sequence_match_loss(
            values([(logits, labels)]), None, settings("reverse_kl", alpha=1.0)
        ).loss

    assert torch.autograd.gradcheck(loss, (data,))


def test_missing_rollouts_are_an_error() -> None:
    data = values(rows(0))
    for config in (settings(), settings("forward_kl", estimator="paper")):
        with pytest.raises(ConfigError, match="no rollouts"):
            sequence_match_loss(data, None, config)


def test_pure_imitation_needs_no_rollouts_and_equals_sft() -> None:
    data = values(rows(0))

    output = objective_loss(settings(), data, None, 1.0)

    torch.testing.assert_close(output.loss, objective_loss(SFTConfig(), data, None, 0.0).loss)
    assert output.terms.keys() == {"train/loss", "train/bc_loss", "train/nll", "train/td_data"}


def test_beta_falls_linearly_after_the_warm_up() -> None:
    config = settings(warmup_fraction=0.4, final_beta=0.2)

    found = [beta_at(step, 100, config) for step in (0, 40, 70, 100, 130)]

    assert found == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert beta_at(5, 5, settings(warmup_fraction=1.0)) == 1.0


def test_rollouts_are_needed_once_their_term_has_weight() -> None:
    assert not needs_rollouts(SFTConfig(), 90, 100)
    assert not needs_rollouts(settings(), 40, 100)
    assert needs_rollouts(settings(), 41, 100)
    assert not needs_rollouts(settings("forward_kl"), 90, 100)
    assert needs_rollouts(settings("forward_kl", estimator="paper"), 90, 100)


def test_config_refuses_an_unknown_divergence_and_offers_the_known() -> None:
    with pytest.raises(ValidationError, match="unknown divergence 'chi'"):
        SequenceMatchConfig(divergence="chi")

    schema = SequenceMatchConfig.model_json_schema()["properties"]["divergence"]
    assert schema["choices"] == list(divergences_of("sequence_match"))
    assert SequenceMatchConfig().divergence in schema["choices"]


def test_the_catalogue_and_the_union_have_the_same_members() -> None:
    assert list(CONFIGS) == list(OBJECTIVES)
    assert all(info.sentence.endswith(".") for info in OBJECTIVES.values())
