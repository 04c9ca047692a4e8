"""What holds for every kind of objective, by parametrisation over the registry."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from seqmatch.metrics import METRICS
from seqmatch.objectives import CONFIGS, OBJECTIVES, ObjectiveConfig, objective_loss
from seqmatch.objectives.composite import PARTS
from seqmatch.objectives.dispatch import (
    RewardScale,
    divergence_name,
    imitation_weight,
    is_paired,
    needs_backspace_q,
    needs_rollouts,
    reward_scale,
    rollout_config,
    settings_in_words,
    steps_with_rollouts,
    value_temperature,
    warnings_of,
)
from seqmatch.types import StateActionValues
from tests.objective_settings import OBJECTIVE_SETTINGS
from tests.random_trajectories import rows
from tests.requested_values import requested_values

every = pytest.mark.parametrize("kind", list(CONFIGS))
BETA = 0.3


def settings(kind: str, **changes: Any) -> ObjectiveConfig:
    found: ObjectiveConfig = CONFIGS[kind].model_validate(OBJECTIVE_SETTINGS[kind] | changes)  # type: ignore[assignment]
    return found


def along(seed: int, kind: str, lengths: tuple[int, ...] = (3, 5)) -> StateActionValues:
    temperature = value_temperature(settings(kind)) or 1.0
    return requested_values(rows(seed, lengths=lengths), temperature, seed=seed)


def joined(one: StateActionValues, other: StateActionValues) -> StateActionValues:
    parts: dict[str, Any] = {
        each.name: None
        if getattr(one, each.name) is None
        else torch.cat([getattr(one, each.name), getattr(other, each.name)])
        for each in fields(one)
    }
    return StateActionValues(**parts)


def thrice_the_second(values: StateActionValues) -> StateActionValues:
    second = values.rows(slice(1, 2))
    return joined(values, joined(second, second))


@every
def test_terms_are_registered_and_tell_the_loss(kind: str) -> None:
    output = objective_loss(settings(kind), along(0, kind), along(1, kind), BETA)

    assert output.terms.keys() <= METRICS.keys()
    assert {"train/loss", "train/bc_loss", "train/nll"} <= output.terms.keys()
    assert not any(term.requires_grad for term in output.terms.values())
    torch.testing.assert_close(output.terms["train/loss"], output.loss.detach())


def test_terms_of_the_composite_add_up() -> None:
    config = settings("composite")
    terms = objective_loss(config, along(0, "composite"), along(1, "composite"), BETA).terms

    weights = {name: OBJECTIVE_SETTINGS["composite"][name] for name in PARTS}
    own = sum(weight * terms[f"train/{name}"] for name, weight in weights.items())
    torch.testing.assert_close(
        terms["train/loss"], BETA * terms["train/bc_loss"] + (1 - BETA) * own
    )


@every
def test_weights_of_trajectories_give_the_expectation(kind: str) -> None:
    """Probabilities 1/4 and 3/4 are a batch with the second trajectory three times."""
    config = settings(kind)
    data, model = along(2, kind), along(3, kind)
    shares = torch.tensor([0.25, 0.75], dtype=torch.float64)

    weighted = objective_loss(config, replace(data, weights=shares), model, BETA)
    # Where each rollout belongs to a demonstration, it is there as often.
    sampled_model = thrice_the_second(model) if is_paired(config) else model
    sampled = objective_loss(config, thrice_the_second(data), sampled_model, BETA)

    torch.testing.assert_close(weighted.loss, sampled.loss)
    assert weighted.terms.keys() == sampled.terms.keys()
    for name, term in weighted.terms.items():
        torch.testing.assert_close(term, sampled.terms[name])


@every
def test_padding_and_batching_change_nothing(kind: str) -> None:
    config = settings(kind)
    data, model = along(4, kind, (2, 7, 4)), along(5, kind, (5, 1, 3))

    together = objective_loss(config, data, model, BETA).loss
    rows_apart = [slice(row, row + 1) for row in range(3)]
    apart = [objective_loss(config, data.rows(r), model.rows(r), BETA).loss for r in rows_apart]

    torch.testing.assert_close(together, torch.stack(apart).mean())


@every
def test_pure_imitation_needs_no_rollouts(kind: str) -> None:
    output = objective_loss(settings(kind), along(6, kind), None, 1.0)
    assert torch.isfinite(output.loss)


@every
def test_what_is_asked_of_an_objective_fits_its_config(kind: str) -> None:
    config = settings(kind)

    has_schedule = "warmup_fraction" in CONFIGS[kind].model_fields
    rollouts = rollout_config(config)
    assert (rollouts is not None) == ("rollouts" in CONFIGS[kind].model_fields)
    assert imitation_weight(config, 100, 100) == pytest.approx(0.2 if has_schedule else 1.0)
    assert needs_rollouts(config, 50, 100) == (rollouts is not None)
    assert steps_with_rollouts(config, 100) == (100 if rollouts is not None else 0)
    assert (value_temperature(config) is not None) == (kind == "gem")
    assert needs_backspace_q(config) == (kind == "composite")
    assert divergence_name(config) == getattr(config, "divergence", "")
    scale = RewardScale(getattr(config, "alpha", 0.01), getattr(config, "discount", 0.998))
    assert reward_scale(config) == scale
    assert not warnings_of(config)


def test_a_composite_without_the_mixture_samples_nothing() -> None:
    config = settings("composite", chi_square_mixture=0.0)
    assert rollout_config(config) is None
    assert not needs_rollouts(config, 90, 100)
    assert not needs_backspace_q(settings("composite", backspace_calibration=0.0))


@pytest.mark.parametrize("weights", ["count", "count_norm", "paper"])
def test_weights_that_do_not_teach_to_stop_are_warned_of(weights: str) -> None:
    config = settings("forward_kl_occupancy", weights=weights)
    (warning,) = warnings_of(config)
    assert f'weights "{weights}"' in warning
    assert "stop" in warning


@pytest.mark.parametrize(
    ("size", "every_steps", "batch_size", "num_used"),
    [(256, 8, 32, 256), (256, 8, 24, 192), (64, 2, 30, 56), (8, 4, 1, 8), (16, 1, 3, 4)],
)
def test_answers_that_no_step_of_a_round_uses_are_warned_of(
    size: int, every_steps: int, batch_size: int, num_used: int
) -> None:
    """Of four answers to a prompt; a step takes whole prompts, at least one."""
    config = settings(
        "adversarial",
        rollouts={"every": every_steps, "batch_size": size},
        policy_step={"answers_per_prompt": 4},
    )
    assert not warnings_of(config)
    found = warnings_of(config, batch_size)
    if num_used >= size:
        assert not found
    else:
        assert len(found) == 1
        assert f"its {every_steps} steps use {num_used}:" in found[0]


@every
def test_settings_in_words_name_what_differs(kind: str) -> None:
    words = {
        "sft": "",
        "forward_kl_occupancy": "weights gamma",
        "dft": "",
        "gem": "beta 0.6",
        "sequence_match": "chi square mixture, alpha 0.1",
        "composite": "0.5 forward kl + 0.25 reverse kl + 2 jensen shannon + 0.75 chi square mixture"
        " + 1.5 backspace calibration, alpha 0.1",
        "adversarial": "reverse kl, level token",
        "spin": "lambda 0.5",
        "dense_reward": "teacher sft, relative to the start",
    }
    assert settings_in_words(settings(kind)) == words[kind]


def test_settings_in_words_name_the_order_of_a_family() -> None:
    config = settings("sequence_match", divergence="alpha", divergence_order=0.25)
    assert settings_in_words(config) == "alpha family of order 0.25, alpha 0.1"


@every
def test_every_kind_says_what_it_is(kind: str) -> None:
    info = OBJECTIVES[kind]
    assert info.kind == kind
    assert info.title
    assert info.short_title
    assert info.sentence.endswith(".")
    assert "\n" not in info.formula
    assert info.source
