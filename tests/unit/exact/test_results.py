"""What the exact experiment is asked and what it streams, as JSON and as a matrix."""

import math
from typing import get_args

import pytest
from pydantic import ValidationError

from seqmatch.divergences import DIVERGENCES, divergences_of
from seqmatch.exact.choices import DEFAULT_OBJECTIVES, ORACLE_OBJECTIVES, get_oracle_objective
from seqmatch.exact.results import MatrixCell, OracleRequest, OracleRun, cell_of, matrix
from seqmatch.objectives import OBJECTIVES, ObjectiveConfig


def _run(objective: str, seed: int, **divergences: float) -> OracleRun:
    return OracleRun(
        objective=objective,
        seed=seed,
        law=[0.5, 0.5],
        divergences=divergences,
        loss=0.1,
        loss_match=1e-14,
        num_iterations=3,
        grad_norm=1e-10,
        is_converged=True,
        off_data_probability=0.0,
    )


def test_every_kind_and_every_divergence_can_be_chosen() -> None:
    kinds = {key.partition(":")[0] for key in ORACLE_OBJECTIVES}

    # Self-play and dense rewards are trained on samples and have no exact twin.
    assert kinds == {"exact", *OBJECTIVES} - {"spin", "dense_reward"}
    assert all(key in ORACLE_OBJECTIVES for key in DEFAULT_OBJECTIVES)
    assert {f"exact:{name}" for name in DIVERGENCES} <= set(ORACLE_OBJECTIVES)
    rewards = [*divergences_of("adversarial"), "fairl_original"]
    assert {key for key in ORACLE_OBJECTIVES if key.startswith("adversarial:")} == {
        f"adversarial:{name}:{level}" for name in rewards for level in ("token", "trajectory")
    }


def test_the_settings_of_every_objective_are_a_valid_config() -> None:
    classes = {
        each.model_fields["kind"].default: each for each in get_args(get_args(ObjectiveConfig)[0])
    }
    for choice in ORACLE_OBJECTIVES.values():
        if choice.settings:
            classes[choice.settings["kind"]].model_validate(choice.settings)
            assert choice.key.startswith(choice.settings["kind"])


def test_what_depends_on_alpha_says_so() -> None:
    assert get_oracle_objective("sequence_match:reverse_kl").uses_alpha
    assert not get_oracle_objective("sft").uses_alpha
    assert not get_oracle_objective("exact:reverse_kl").uses_alpha


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["sftt"]}, r"unknown objective 'sftt'; known: .*exact:forward_kl.*sft"),
        ({"seeds": [1, -1]}, "seed -1 is below 0"),
        ({"alpha": 0.0}, "greater than 0"),
    ],
)
def test_a_bad_request_says_what_is_allowed(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OracleRequest.model_validate(settings)


def test_what_is_asked_twice_is_done_once() -> None:
    request = OracleRequest(objectives=["sft", "sft"], seeds=[1, 0, 1])

    assert (request.objectives, request.seeds) == (["sft"], [1, 0])


def test_an_infinite_divergence_survives_json() -> None:
    run = _run("sft", 0, reverse_kl=math.inf, forward_kl=0.25)

    assert OracleRun.model_validate_json(run.model_dump_json()) == run
    assert run.model_dump(mode="json")["divergences"]["reverse_kl"] == "inf"


def test_the_matrix_has_means_and_intervals_over_seeds() -> None:
    runs = [
        _run("exact:reverse_kl", 0, forward_kl=1.0, reverse_kl=0.0),
        _run("sft", 0, forward_kl=0.1, reverse_kl=math.inf),
        _run("exact:reverse_kl", 1, forward_kl=3.0, reverse_kl=0.0),
    ]

    first, second = matrix(runs)

    assert (first.objective, first.num_seeds) == ("exact:reverse_kl", 2)
    # 12.7062 is Student's t for one degree of freedom; the standard error of (1, 3) is 1.
    assert first.cells["forward_kl"] == MatrixCell(mean=2.0, half_width=12.7062, num_infinite=0)
    assert second.cells["forward_kl"].half_width is None
    assert second.cells["reverse_kl"] == MatrixCell(mean=math.inf, half_width=None, num_infinite=1)


def test_one_infinite_seed_makes_the_mean_infinite() -> None:
    assert cell_of([0.5, math.inf]).mean == math.inf
