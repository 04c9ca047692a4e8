"""The SequenceMatch loss against equation 4 written out term by term, and exact identities."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from seqmatch.divergences import get_divergence
from seqmatch.errors import ConfigError
from seqmatch.metrics import METRICS
from seqmatch.objectives import (
    SequenceMatchConfig,
    needs_rollouts,
    objective_loss,
    sequence_match_loss,
    sft_loss,
)
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.types import StateActionValues
from tests.oracles import sequence_match as oracle
from tests.random_trajectories import Rows, arrays, gradients, rows, values
from tests.sequence_match_cases import (
    ALPHA,
    GAMMA,
    MIXTURE,
    NAMES,
    each_estimator,
    each_option,
    every,
    minus_equation_4,
    plain,
    settings,
    with_options,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chi_square_pearson", 0.8933445199),
        ("reverse_kl", 1.1541264711),
        ("forward_kl", 1.2662544411),
        ("jensen_shannon", 2.3165947270),
    ],
)
@each_estimator
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
@each_estimator
@each_option
def test_d4_loss_is_minus_equation_4(name: str, estimator: str, options: oracle.Options) -> None:
    """Both estimators on complete trajectories from one start; the oracle adds the mixture."""
    start = torch.randn(4, dtype=torch.float64)
    data, model = rows(0, start), rows(1, start)

    config = with_options(name, options, estimator=estimator)
    found = sequence_match_loss(values(data), values(model), config).loss

    assert float(found.detach()) == pytest.approx(
        minus_equation_4(name, data, model, options), abs=1e-10
    )


@every
@each_option
def test_d4_paper_estimator_is_equation_4_from_different_starts(
    name: str, options: oracle.Options
) -> None:
    data, model = rows(0), rows(1)

    config = with_options(name, options, estimator="paper")
    found = sequence_match_loss(values(data), values(model), config).loss

    assert float(found.detach()) == pytest.approx(
        minus_equation_4(name, data, model, options), abs=1e-10
    )


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
    assert float(found.detach()) == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_d3_values_telescope_along_every_trajectory() -> None:
    data = rows(3, lengths=(1, 4, 7))

    found = temporal_differences(values(data), GAMMA).value_sum()

    starts = [oracle.soft_values(logits)[0] for logits, _ in arrays(data)]
    assert float(found.detach()) == pytest.approx(float(np.mean(starts)), abs=1e-12)


@plain
def test_d6_tends_to_discounted_likelihood_at_its_rate(name: str) -> None:
    """D6: the gradient's difference is alpha E[d grad d] / f''(1) + O(alpha^2)."""
    data = rows(4)
    curvature = get_divergence(name).second_derivative
    assert curvature is not None

    _assert_rate(data, None, name, 1 / (2 * curvature), 0.0)


@each_option
def test_d6_mixture_tends_to_discounted_likelihood_at_its_rate(options: oracle.Options) -> None:
    """On rollouts too; with rollouts like data c_E + c_pi = 1/(2 f''(1)) of the general form."""
    _assert_rate(rows(4), rows(5), MIXTURE, options.mixture_data, options.mixture_model)


def _assert_rate(
    data: Rows, model: Rows | None, name: str, on_data: float, on_model: float
) -> None:
    """grad(-J) = grad(discounted NLL) + alpha grad(c_E E d^2 + c_pi E_model d^2) + O(alpha^2)."""
    batch = values(data)
    rollouts = None if model is None else values(model)
    leaves = [*data, *(model or [])]
    along = temporal_differences(batch, GAMMA)
    likelihood = gradients(along.discounted_sum(along.nll), leaves)
    squares = on_data * _squares(batch)
    if rollouts is not None:
        squares = squares + on_model * _squares(rollouts)
    slope = gradients(squares, leaves)

    for alpha in (1e-3, 1e-4):
        config = settings(name, alpha=alpha, mixture_data=on_data, mixture_model=on_model)
        loss = sequence_match_loss(batch, rollouts, config).loss
        for got, limit, rate in zip(gradients(loss, leaves), likelihood, slope, strict=True):
            assert float((got - limit - alpha * rate).abs().max()) < 100 * alpha**2
            assert float((got - limit).abs().max()) >= alpha * float(rate.abs().max()) / 2


def _squares(batch: StateActionValues) -> torch.Tensor:
    """The discounted sum of d^2 with the absorbing tail, (1 - gamma) V(s_N)^2."""
    along = temporal_differences(batch, GAMMA)
    end = along.discounted_end((1 - GAMMA) * along.end_value.square())
    return along.discounted_sum(along.td.square()) + end


def test_d6_weights_of_the_mixture_add_up_to_its_curvature() -> None:
    config, curvature = settings(), get_divergence(MIXTURE).second_derivative
    assert curvature is not None

    assert config.mixture_data + config.mixture_model == 1 / (2 * curvature)


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_d6_with_the_identity_for_phi_it_is_discounted_likelihood(
    alpha: float, clip: float
) -> None:
    """phi(x) = x is the mixture with both weights 0: equality at every alpha, and D21."""
    data = rows(4)
    config = settings(alpha=alpha, mixture_data=0.0, mixture_model=0.0, reward_clip=clip)
    moved = [(logits + torch.randn(len(logits), 1).double(), y) for logits, y in data]

    loss = sequence_match_loss(values(data), None, config).loss

    along = temporal_differences(values(data), GAMMA)
    likelihood = along.discounted_sum(along.nll)
    torch.testing.assert_close(loss, likelihood)
    torch.testing.assert_close(gradients(loss, data), gradients(likelihood, data))
    torch.testing.assert_close(sequence_match_loss(values(moved), None, config).loss, loss)


@every
def test_d21_likelihood_ignores_offsets_and_sequence_match_does_not(name: str) -> None:
    data, model = rows(5), values(rows(6))
    moved = [(logits + torch.randn(len(logits), 1).double(), y) for logits, y in data]
    config = settings(name)

    torch.testing.assert_close(sft_loss(values(moved)).loss, sft_loss(values(data)).loss)
    before = sequence_match_loss(values(data), model, config).loss
    after = sequence_match_loss(values(moved), model, config).loss
    assert abs(float(after.detach() - before.detach())) > 1e-4


@every
@each_estimator
@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_terms_are_registered_and_add_up(name: str, estimator: str, clip: float) -> None:
    data, model = values(rows(8)), values(rows(9))
    config = settings(name, estimator=estimator, reward_clip=clip)

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
    assert ("train/clipped_data" in terms) is bool(clip)
    if clip:
        beyond = (ALPHA * temporal_differences(data, GAMMA).td).abs() > clip
        share = float(beyond.sum()) / float(data.is_action.sum())
        assert 0.0 < share < 1.0
        assert float(terms["train/clipped_data"]) == pytest.approx(share)


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
@pytest.mark.parametrize("clip", [0.0, 2.0])
def test_loss_and_gradient_are_finite_in_float32_far_from_the_data(name: str, clip: float) -> None:
    far = [((1e4 * logits).detach().requires_grad_(), labels) for logits, labels in rows(12)]
    config = settings(name, alpha=1.0, reward_clip=clip)

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


def test_rollouts_are_needed_once_their_term_has_weight() -> None:
    assert not needs_rollouts(settings(), 40, 100)
    assert needs_rollouts(settings(), 41, 100)
    assert not needs_rollouts(settings(mixture_model=0.0), 90, 100)
    assert not needs_rollouts(settings("forward_kl"), 90, 100)
    assert needs_rollouts(settings("forward_kl", estimator="paper"), 90, 100)


def test_config_refuses_an_unknown_divergence_and_offers_the_known() -> None:
    with pytest.raises(ValidationError, match="unknown divergence 'chi'"):
        SequenceMatchConfig(divergence="chi")

    schema = SequenceMatchConfig.model_json_schema()["properties"]["divergence"]
    assert schema["choices"] == NAMES
    assert SequenceMatchConfig().divergence in NAMES


@pytest.mark.parametrize(("order", "same_as"), [(0.0, "forward_kl"), (1.0, "reverse_kl")])
def test_the_order_of_the_alpha_family_reaches_the_loss(order: float, same_as: str) -> None:
    data = values(rows(0))

    found = sequence_match_loss(data, None, settings("alpha", divergence_order=order)).loss

    expected = sequence_match_loss(data, None, settings(same_as)).loss
    torch.testing.assert_close(found, expected)
    usual = sequence_match_loss(data, None, settings("alpha")).loss
    assert float((found - usual).detach().abs()) > 1e-5
