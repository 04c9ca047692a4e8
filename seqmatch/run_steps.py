"""The verbs of the training loop, over one run's config, rows, state and reporter."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from seqmatch.batches import TrainingRows
from seqmatch.checkpoints import publish
from seqmatch.config import RunConfig
from seqmatch.discriminators.files import save_discriminator
from seqmatch.discriminators.held_out import held_out_metrics
from seqmatch.distributed import ALONE, World
from seqmatch.durable_files import new_folder
from seqmatch.errors import CheckpointError, DivergedError
from seqmatch.evaluation import evaluate
from seqmatch.export import export_run
from seqmatch.flags import Flag
from seqmatch.gradients import BatchLoss, accumulate_gradients, added_up
from seqmatch.lens import Eyes
from seqmatch.metric_table import MetricTable
from seqmatch.objectives.dispatch import imitation_weight, reward_scale, stops_on_flag
from seqmatch.optimization import apply_gradients, are_finite, learning_rate_at
from seqmatch.pass_mode import plain_passes
from seqmatch.policy import Policy, save_policy
from seqmatch.question import Question
from seqmatch.reporting import Control, Reporter
from seqmatch.round_terms import Complete
from seqmatch.run_batches import (
    PASSES_WITHOUT_GRADIENT,
    Batch,
    draw_batch,
    is_sampling_due,
    refresh_rollouts,
)
from seqmatch.run_completion import completing
from seqmatch.run_flags import flags_of_evaluation, flags_of_round, flags_of_terms
from seqmatch.seeding import child_seed
from seqmatch.sharding import Kept, Shards
from seqmatch.skipped_steps import check_skipped
from seqmatch.throughput import Throughput
from seqmatch.training_state import TrainState, write_state

MAX_FAILED_SAVES = 3
_CHECK_WEIGHTS_EVERY = 50


@dataclass
class TrainingRun:
    """One run while it trains: what is fixed, what changes (`state`), and who hears of it."""

    config: RunConfig
    rows: TrainingRows
    state: TrainState
    reporter: Reporter
    run_dir: Path
    dataset_sha256: str
    metrics_csv: Callable[[], str] | None
    max_positions: int
    eyes: Eyes | None = None
    """What probes see; None where evaluations make none."""
    world: World = ALONE
    """The processes that train it; all of them go through the same verbs together."""
    shards: Shards | None = None
    """Where each process holds a part of the weights."""
    throughput: Throughput = field(default_factory=Throughput)
    reported: MetricTable = field(default_factory=MetricTable)
    num_failed_saves: int = 0
    is_flagged: bool = False
    """True where a flag was raised since the start and the run is to stop at it."""

    # ---- one step

    def refresh_rollouts(self) -> Control:
        """Samples new rollouts, where it is time and the step needs them.

        Where the owner asks to stop meanwhile, the old ones stay.
        """
        if not is_sampling_due(self.config, self.state):
            return Control.GO_ON
        self.reporter.phase("sampling rollouts")
        question = Question(self._ask, self.world, f"sampling before step {self.state.step}")
        with self.throughput.phases.during("rollout"), self._whole_weights():
            refresh_rollouts(
                self.config,
                self.rows,
                self.state,
                self.max_positions,
                question.is_asked_to_stop,
                self.world,
            )
        self.reporter.phase("training")
        answer = self.world.from_main(lambda: question.answer)
        if answer is Control.GO_ON:
            self._raise(flags_of_round(self.config, self.state))
        return answer

    def draw_batch(self) -> Batch:
        """Returns the next batch: demonstrations, and rollouts where the step needs some."""
        with self.throughput.phases.during("data"):
            return draw_batch(self.config, self.rows, self.state, self.max_positions)

    def update(self, batch: Batch) -> None:
        """Takes one optimiser step on a batch, or skips it where a number is not finite.

        Raises:
            DivergedError: Too many steps were skipped, or a weight is not finite.
        """
        config, state = self.config, self.state
        beta = imitation_weight(config.objective, state.step, config.optimization.num_steps)
        found = self._gradients(batch, beta)
        learning_rate = learning_rate_at(state.num_updates, config.optimization)
        with self.throughput.phases.during("optimiser"):
            outcome = apply_gradients(
                state.optimizer, found.loss, learning_rate, config.optimization.max_grad_norm
            )
            if outcome.is_finite and state.target is not None:
                state.target.follow(state.policy)
        self._raise(flags_of_terms(state, found.terms))
        state.step += 1
        self.throughput.add_step(found.num_positions)
        if not outcome.is_finite:
            self._count_skipped_step(found.loss, outcome.grad_norm)
            return
        numbers = {**found.terms, "train/loss": found.loss, "train/grad_norm": outcome.grad_norm}
        numbers |= {"train/learning_rate": learning_rate, "train/beta": beta}
        if state.policy.space.has_backspace:
            share = batch.share_of_labels(state.policy.space.backspace_id)
            numbers["train/backspace_labels"] = share
        if batch.replayed:
            numbers["rollout/age"] = state.step - 1 - batch.mean_birth()
        state.means.add({name: value for name, value in numbers.items() if math.isfinite(value)})
        if state.step % _CHECK_WEIGHTS_EVERY == 0:
            self._check_weights()

    # ---- after a step

    def report_if_due(self) -> None:
        """Reports the means since the last report."""
        if self.state.step % self.report_every and not self._is_last_step:
            return
        values = self.state.means.take()
        values["system/skipped_steps"] = float(len(self.state.skipped_steps))
        self._report({**values, **self.throughput.take()})

    @property
    def report_every(self) -> int:
        """Steps between two reports: 10, fewer in a short run."""
        return min(max(self.config.optimization.num_steps // 50, 1), 10)

    def ask(self) -> Control:
        """Tells the owner how far the run is, and returns what to do next."""
        with self.throughput.phases.during("logging"):
            return self.world.from_main(self._ask)

    def _ask(self) -> Control:
        answer = self.reporter.progress(self.state.step, self.config.optimization.num_steps)
        ends_itself = answer is Control.GO_ON and self.is_flagged
        return Control.STOP_AND_SAVE if ends_itself else answer

    def evaluate_if_due(self) -> Control:
        """Evaluates the policy every so many steps, before the first and after the last one."""
        config, state = self.config, self.state
        is_due = state.step % config.evaluation.every == 0 or self._is_last_step
        if not is_due or state.evaluated_step == state.step:
            return Control.GO_ON
        with self.throughput.phases.during("evaluation"), self._whole_weights():
            answer = self.world.from_main(self._evaluate)
        if answer is Control.GO_ON:
            state.evaluated_step = state.step
        return answer

    def _evaluate(self) -> Control:
        config, state = self.config, self.state
        self.reporter.phase("evaluating")
        question = Question(self._ask)
        with plain_passes(state.policy):  # measured alike, in whatever precision it is trained
            found = evaluate(
                state.policy,
                self.rows.held_out.first(config.evaluation.num_prompts),
                config.evaluation,
                reward_scale(config.objective),
                max_positions=PASSES_WITHOUT_GRADIENT * self.max_positions,
                seed=child_seed(config.seed, "evaluation"),
                should_stop=question.is_asked_to_stop,
                with_rollouts=state.step > 0,
                eyes=self.eyes,
            )
        self.reporter.phase("training")
        if question.answer is Control.GO_ON:
            verdict = held_out_metrics(
                state.player,
                state.policy,
                found.demonstrated,
                found.sampled,
                PASSES_WITHOUT_GRADIENT * self.max_positions,
            )
            metrics = {**found.metrics, **verdict}
            self._report(metrics)
            self.reporter.samples(state.step, found.traces[: config.evaluation.num_samples])
            self._raise(flags_of_evaluation(state, metrics, len(found.sampled)))
        return question.answer

    def tell_of_a_missing_evaluation(self) -> None:
        """Says so where a stop came at the last step: its deadline leaves no time to evaluate."""
        if self.state.evaluated_step != self.state.step:
            self.reporter.event(
                "warning",
                "not_evaluated",
                f"the stop came at the last step, {self.state.step}: the policy is whole and "
                "saved, its last evaluation was left out",
            )

    def save_if_due(self) -> None:
        """Writes a checkpoint every so many steps; the last one is written at the end."""
        if self.state.step % self.config.checkpoints.every == 0 and not self._is_last_step:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint. One that cannot be written is told of and tried again later.

        Raises:
            DivergedError: A weight is not finite.
            OSError: It could not be written three times in a row.
            CheckpointError: What was written did not read back three times in a row.
        """
        self._check_weights()
        with self.throughput.phases.during("checkpoint"):
            self.world.from_main(partial(self._save, self._collected()))

    def _save(self, kept: Kept | None) -> None:
        self.reporter.phase("saving a checkpoint")
        self.reporter.flush()

        def write(folder: Path) -> None:
            write_state(self.state, self.config, self.dataset_sha256, folder, kept)

        try:
            folder = self.run_dir / "checkpoints"
            publish(folder, self.state.step, write, keep=self.config.checkpoints.keep)
            self.num_failed_saves = 0
        except (OSError, CheckpointError) as error:
            self.num_failed_saves += 1
            self.reporter.event(
                "warning", "checkpoint_failed", f"step {self.state.step} was not saved: {error}"
            )
            if self.num_failed_saves >= MAX_FAILED_SAVES or self._is_last_step:
                raise
        self.reporter.phase("training")

    def export(self) -> tuple[Path, Path]:
        """Writes the policy and the zip for download; returns the folder and the zip.

        Raises:
            OSError: One of them could not be written.
        """
        kept = self._collected()
        policy = self.state.policy if kept is None else kept.policy
        return self.world.from_main(partial(self._export, policy))

    def _export(self, policy: Policy) -> tuple[Path, Path]:
        self.reporter.phase("exporting")
        policy_folder = self.run_dir / "policy"
        with new_folder(policy_folder) as folder:
            save_policy(policy, folder)
            if self.state.player is not None:
                save_discriminator(self.state.player.discriminator, folder)
        self.reporter.flush()
        csv = self.metrics_csv() if self.metrics_csv else self.reported.csv()
        export_path = export_run(
            policy,
            self.run_dir / f"seqmatch-step-{self.state.step}.zip",
            config=self.config,
            dataset_sha256=self.dataset_sha256,
            metrics_csv=csv,
            summary=dict(sorted(self.state.latest.items())),
        )
        self.reporter.artifact("adapter_zip", export_path)
        return policy_folder, export_path

    # ---- details

    def _whole_weights(self) -> AbstractContextManager[None]:
        """While it lasts, each process can compute with the policy by itself."""
        return nullcontext() if self.shards is None else self.shards.whole()

    def _collected(self) -> Kept | None:
        """What goes into files in the place of shards."""
        return None if self.shards is None else self.shards.collected(self.state.optimizer)

    @property
    def _is_last_step(self) -> bool:
        return self.state.step >= self.config.optimization.num_steps

    def _report(self, values: dict[str, float]) -> None:
        with self.throughput.phases.during("logging"):
            self.reported.add(self.state.step, values)
            self.state.latest.update(values)
            self.reporter.metrics(self.state.step, values)

    def _gradients(self, batch: Batch, beta: float) -> BatchLoss:
        """The gradients of a batch; where an accelerator's memory is short, in smaller passes."""
        state = self.state
        complete = self._complete(batch)
        parameters = list(state.policy.trainable_parameters().values())
        while True:
            own, ran_out = None, "in another process"
            try:
                own = accumulate_gradients(
                    state.policy,
                    self.config.objective,
                    batch.demonstrated,
                    batch.replayed,
                    beta=beta,
                    max_positions=self.max_positions,
                    target=state.target,
                    complete=complete,
                    world=self.world,
                    phases=self.throughput.phases,
                )
            except torch.OutOfMemoryError as error:
                if self.shards is not None:
                    raise  # the others wait for this process's part of a sum
                ran_out = str(error)
            found = added_up(self.world, own, parameters)
            if found is not None:
                return found
            self._take_smaller_passes(batch, ran_out)

    def _complete(self, batch: Batch) -> Complete | None:
        phases = self.throughput.phases
        return completing(self.config, self.state, batch, self.max_positions, phases)

    def _take_smaller_passes(self, batch: Batch, ran_out: str) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        rows = (*batch.demonstrated, *batch.replayed)
        longest = max(len(row.prompt_ids) + len(row.pushes) for row in rows)
        if self.max_positions <= longest:
            raise torch.OutOfMemoryError(ran_out)
        self.max_positions = max(self.max_positions // 2, longest)
        torch.cuda.empty_cache()
        self.reporter.event(
            "warning",
            "smaller_passes",
            f"memory ran out at step {self.state.step}; batches now go through the policy in "
            f"passes of {self.max_positions} positions, with the same gradient",
        )

    def _raise(self, flags: Sequence[Flag]) -> None:
        stops = stops_on_flag(self.config.objective)
        for flag in flags:
            end = " The run is saved and stops here; resumed, it goes on." if stops else ""
            self.reporter.event("warning", flag.event_code, flag.message + end)
            self.is_flagged = self.is_flagged or stops

    def _count_skipped_step(self, loss: float, grad_norm: float) -> None:
        state = self.state
        state.skipped_steps.append(state.step)
        self.reporter.event(
            "warning",
            "step_skipped",
            f"step {state.step} changed nothing: loss {loss}, gradient norm {grad_norm}",
        )
        check_skipped(state.skipped_steps, state.step)

    def _check_weights(self) -> None:
        is_finite = are_finite(self.state.policy.trainable_parameters())
        if not all(self.world.gather(is_finite)):
            raise DivergedError(
                f"a trained weight is not finite after step {self.state.step}; the last checkpoint "
                "is from before. Try a smaller learning rate"
            )
