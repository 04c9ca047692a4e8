"""Objectives trained in rounds: killed and resumed bit by bit, in several passes, saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmatch.discriminators.files import load_discriminator
from seqmatch.gradients import accumulate_gradients
from seqmatch.metrics import METRICS
from seqmatch.policy import load_saved_policy
from seqmatch.run_batches import is_sampling_due, refresh_rollouts
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from tests.short_runs import DEMONSTRATIONS, SHA, Killed, Recorder, config_short, train_short

ROUNDS = {"every": 3, "batch_size": 8, "buffer_size": 20, "max_new_tokens": 4}
STEP = {"answers_per_prompt": 2}
ALWAYS = {
    "rollouts": ROUNDS,
    "corruption": {"rate": 0.3},
    "warmup_fraction": 0.2,
    "stop_on_flag": False,  # of a model that knows nothing yet, a probe tells a lot
}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "token": {
        "kind": "adversarial",
        "policy_step": STEP,
        "discriminator": {
            "history_share": 0.5,
            "spectral_norm": True,
            "warmup_steps": 2,
            "updates": 2,
            "gradient_penalty": 1.0,
        },
    },
    "trajectory": {
        "kind": "adversarial",
        "divergence": "jensen_shannon",
        "level": "trajectory",
        "policy_step": STEP | {"baseline": "grpo"},
        "discriminator": {"loss": "bradley_terry"},
    },
    "increments": {
        "kind": "adversarial",
        "divergence": "forward_kl",
        "level": "increments",
        "policy_step": STEP,
        "discriminator": {"form": "airl", "gate": 0.7},
    },
    "spin": {"kind": "spin"},
    "dense reward": {"kind": "dense_reward", "policy_step": STEP},
    "dense reward of values": {
        "kind": "dense_reward",
        "teacher": "sequence_match",
        "relative_to_start": False,
        "policy_step": STEP,
    },
}


SIX_ROWS = {"optimization": {"num_steps": 20, "batch_size": 6}}


def changes(kind: str) -> dict[str, Any]:
    return {"objective": {**ALWAYS, **KINDS[kind]}, "evaluation": {"every": 10}}


def _begun(
    kind: str, folder: Path, step: int, further: Mapping[str, Any] | None = None
) -> TrainingRun:
    run = begin(
        config_short({**changes(kind), **(further or {})}),
        DEMONSTRATIONS,
        run_dir=folder,
        models_dir=folder,
        allowed_models=(),
        reporter=Recorder(),
        dataset_sha256=SHA,
        metrics_csv=None,
    )
    run.state.step = step
    run.refresh_rollouts()
    return run


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", list(KINDS))
def test_killed_and_resumed_equals_unkilled(kind: str, tmp_path: Path) -> None:
    """Every byte of the last checkpoint: players, optimisers, round, history, monitor, counters."""
    unbroken, killed, resumed = Recorder(), Recorder(13), Recorder()

    train_short(tmp_path / "unbroken", unbroken, changes(kind))
    with pytest.raises(Killed):
        train_short(tmp_path / "killed", killed, changes(kind))
    train_short(tmp_path / "killed", resumed, changes(kind))

    assert ("resumed", "resumed from the checkpoint of step 10") in resumed.events
    last = Path("checkpoints") / "step-00000020"
    mine, theirs = _files(tmp_path / "unbroken" / last), _files(tmp_path / "killed" / last)
    for name in ("manifest.json", "policy/tokenizer_config.json"):
        mine.pop(name), theirs.pop(name)  # hashes, and a note of whence it was loaded
    one, other = (json.loads(files.pop("state.json")) for files in (mine, theirs))
    timed = ("latest", "means")  # the machine's speed is among them
    assert {k: v for k, v in one.items() if k not in timed} == {
        k: v for k, v in other.items() if k not in timed
    }
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert killed.repeatable() | resumed.repeatable() == unbroken.repeatable()
    assert {name for name, _ in unbroken.values} <= METRICS.keys()


def test_what_a_run_with_a_discriminator_reports(tmp_path: Path) -> None:
    reporter = Recorder()
    train_short(tmp_path, reporter, changes("token"))

    first = {step for name, step in reporter.values if name == "discriminator/loss"}
    assert min(first) == 3  # two steps before the end of the imitation warm-up of four
    reported = {name for name, _ in reporter.values}
    for name in ("accuracy_data", "accuracy_rollouts", "auc", "entropy", "updates"):
        assert f"discriminator/{name}" in reported
    assert {"train/reward", "train/kl_reference", "train/policy_entropy"} <= reported
    assert {"discriminator/held_out_auc", "discriminator/calibration_error"} <= reported
    policy = load_saved_policy(tmp_path / "policy", device="cpu", models_dir=tmp_path)
    found = load_discriminator(tmp_path / "policy", policy)
    assert found is not None
    stored = load_file(tmp_path / "checkpoints/step-00000020/policy/discriminator.safetensors")
    assert all(torch.equal(stored[name], value) for name, value in found.tensors().items())


@pytest.mark.parametrize("kind", ["token", "trajectory", "spin", "dense reward"])
def test_several_passes_give_the_gradient_of_one(kind: str, tmp_path: Path) -> None:
    """The discriminator sees the whole batch at once, however it went through the policy."""
    found = []
    for at, positions in enumerate((10_000, 60)):
        run = _begun(kind, tmp_path / str(at), step=9, further=SIX_ROWS)
        batch = run.draw_batch()
        loss = accumulate_gradients(
            run.state.policy,
            run.config.objective,
            batch.demonstrated,
            batch.replayed,
            beta=0.4,
            max_positions=positions,
            complete=run._complete(batch),
        )
        gradients = {
            name: weight.grad.clone()
            for name, weight in run.state.policy.trainable_parameters().items()
            if weight.grad is not None
        }
        found.append((loss, gradients))
    (whole, of_whole), (parted, of_parts) = found
    assert parted.loss == pytest.approx(whole.loss, rel=1e-3, abs=1e-4)
    assert of_parts.keys() == of_whole.keys()
    # The discriminator's Adam lets rounding errors grow before they reach the rewards.
    scale = max(float(each.abs().max()) for each in of_whole.values())
    close = 2e-2 if run.state.player else 1e-4
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_parts[name], gradient, rtol=0.0, atol=close * scale)


def test_a_stop_while_the_first_judged_round_is_sampled_changes_nothing(tmp_path: Path) -> None:
    """At the end of the imitation warm-up a round and the reference come together or not at all."""
    run = _begun("token", tmp_path, step=4)
    before = run.state.round
    assert before is not None
    assert before.answers[0].reference_log_probs == ()
    run.state.step = 5

    refresh_rollouts(run.config, run.rows, run.state, run.max_positions, lambda: True)
    assert run.state.reference is None
    assert run.state.round is before
    assert is_sampling_due(run.config, run.state)

    run.refresh_rollouts()
    assert run.state.reference is not None
    assert run.state.round is not None
    assert all(answer.reference_log_probs for answer in run.state.round.answers)
    run.update(run.draw_batch())


def test_a_batch_that_is_cut_again_teaches_the_discriminator_once(tmp_path: Path) -> None:
    run = _begun("token", tmp_path, step=9)
    batch = run.draw_batch()
    complete, losses = run._complete(batch), []
    for positions in (10_000, 100):
        found = accumulate_gradients(
            run.state.policy,
            run.config.objective,
            batch.demonstrated,
            batch.replayed,
            beta=0.4,
            max_positions=positions,
            complete=complete,
        )
        losses.append(found.loss)
    assert run.state.player is not None
    assert run.state.player.num_updates == 2  # those of one step
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
