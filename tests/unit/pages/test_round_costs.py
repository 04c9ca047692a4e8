"""What the Train page says of sampling while training."""

from typing import Any

import pytest

from pages.presenters.estimates import estimate_html
from pages.presenters.objective_card import reward_card
from pages.presenters.round_costs import round_costs
from seqmatch.config import RunConfig
from seqmatch.divergences import divergences_of, get_divergence
from seqmatch.estimates import estimate


def _config(adapter: str = "full", **objective: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"data": {"dataset": "x"}, "adapter": {"kind": adapter}, "objective": objective}
    )


def _words(adapter: str = "full", **objective: Any) -> str:
    return " ".join(round_costs(_config(adapter, **objective)))


def test_objectives_that_sample_nothing_cost_nothing_more() -> None:
    assert round_costs(_config(kind="sft")) == ()
    assert round_costs(_config(kind="composite", chi_square_mixture=0.0)) == ()


@pytest.mark.parametrize(("every", "uses"), [(50, "12"), (16, "4"), (2, "0.5")])
def test_replayed_answers_say_how_often_they_are_used(every: int, uses: str) -> None:
    """64 a step of 256: 4 steps use each once."""
    words = _words(kind="sequence_match", rollouts={"every": every})
    assert f"256 answers every {every} steps, of at most 64 tokens" in words
    assert f"64 of the newest 1,024, each answer about {uses} times" in words


def test_each_choice_says_what_it_costs() -> None:
    words = _words(kind="adversarial")
    assert "256 answers every 4 steps, 4 to each of 64 prompts" in words
    assert "a few percent" in words
    assert "one copy" in words
    own = {"backbone": "adapter", "updates": 3, "history_share": 0.5, "r1_penalty": 1.0}
    words = _words("lora", kind="adversarial", discriminator=own, policy_step={"kl_weight": 0.0})
    for part in ("own adapter learns 3 times", "100% as many older", "twice as long"):
        assert part in words
    assert "copy" not in words
    assert "two copies" in _words(kind="dense_reward")
    assert "one copy" in _words(kind="dense_reward", relative_to_start=False)
    assert "once more" in _words(kind="spin")
    assert "every step" in _words(kind="spin", rollouts={"every": 1})


def test_the_estimate_counts_what_is_said() -> None:
    def estimated(adapter: str, **discriminator: Any) -> Any:
        config = _config(adapter, kind="adversarial", discriminator=discriminator)
        return estimate(config.model_copy(update={"base_model": "smollm2-135m-instruct"}))

    cheap, dear = estimated("lora"), estimated("lora", backbone="adapter", updates=2)
    assert dear.seconds > 1.5 * cheap.seconds
    html = estimate_html(_config(kind="adversarial"), 1, [], None)
    assert "256 answers every 4 steps" in html


@pytest.mark.parametrize("name", sorted(divergences_of("adversarial")))
def test_the_card_of_a_reward_has_its_formula(name: str) -> None:
    card = reward_card(name)
    assert get_divergence(name).reward_formula in card
    assert "varphi" not in card
    assert ("GAIL" in card) == (name == "jensen_shannon")
