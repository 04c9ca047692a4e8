"""The lens on two tiny real runs, one with a discriminator of its own: task, probe, command."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from seqmatch.cli import main
from seqmatch.config import RunConfig
from seqmatch.divergences import DIVERGENCES
from seqmatch.errors import DemonstrationError, ModelLoadError
from seqmatch.ingest import read_frozen
from seqmatch.jobs.answering import Stopped
from seqmatch.jobs.lane import Lane
from seqmatch.jobs.lens_types import LensPiece, LensRequest
from seqmatch.jobs.lens_work import Lens
from seqmatch.jobs.loaded_policies import LoadedPolicies
from seqmatch.reporting import NullReporter
from seqmatch.training import train
from storage.records import Progress, RunStatus, TaskStatus
from tests.integration.jobs.shop import Shop
from tests.objective_settings import OBJECTIVE_SETTINGS

SETTINGS: dict[str, Any] = {
    "optimization": {"num_steps": 2, "batch_size": 4, "warmup_steps": 1},
    "evaluation": {"every": 100, "num_prompts": 2, "max_new_tokens": 4, "num_samples": 1},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("lens") / "data")
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain(shop: Shop) -> str:
    return _trained(shop, "plain", {"kind": "sft"})


@pytest.fixture(scope="module")
def adversarial(shop: Shop) -> str:
    rollouts = {"every": 1, "batch_size": 4, "buffer_size": 4, "max_new_tokens": 3}
    objective = {**OBJECTIVE_SETTINGS["adversarial"], "rollouts": rollouts}
    return _trained(shop, "adversarial", objective)


def _trained(shop: Shop, name: str, objective: dict[str, object]) -> str:
    """A run that was trained in this process, without its runner."""
    data = {"dataset": shop.dataset.id, "heldout_fraction": 0.4, "max_tokens": 32}
    run = shop.queue(name, objective=objective, **SETTINGS, data=data)
    shop.store.devices.set_slots(["cpu:0"])
    claim = shop.store.runs.claim("test")
    assert claim is not None
    assert claim.run.id == run.id
    train(
        RunConfig.model_validate_json(run.config_json),
        read_frozen(shop.store.datasets.folder(shop.dataset.id)),
        run_dir=shop.store.run_dir(run.id),
        models_dir=shop.data_dir / "models",
        reporter=NullReporter(),
        dataset_sha256=shop.dataset.id,
    )
    shop.store.runs.progress(run.id, claim.attempt, Progress(2, 0.0))
    shop.store.runs.finish(run.id, claim.attempt, RunStatus.COMPLETED)
    return run.id


def _pieces(shop: Shop, request: LensRequest, lens: Lens | None = None) -> list[LensPiece]:
    found: list[LensPiece] = []

    def write(piece: BaseModel) -> bool:
        found.append(LensPiece.model_validate_json(piece.model_dump_json()))
        return True

    (lens or Lens(shop.store, LoadedPolicies(shop.store))).work(request, write)
    return found


def test_the_measure_is_a_task_with_every_divergence_and_its_kind(shop: Shop, plain: str) -> None:
    request = LensRequest(run_id=plain, work="measure", num_answers=16)
    task = shop.store.tasks.submit("lens", request.model_dump_json())
    assert Lane(shop.store).work_on_next()
    ended = shop.store.tasks.get(task.id)
    assert (ended.status, ended.error_message) == (TaskStatus.COMPLETED, "")
    pieces = [
        LensPiece.model_validate_json(output.payload_json)
        for output in shop.store.tasks.output(task.id)
    ]
    assert next(piece.total for piece in pieces if piece.total) == 16
    measured = pieces[-1].measured
    assert measured is not None
    assert [row.name for row in measured.estimates] == list(DIVERGENCES)
    assert "lower bound" in measured.bound_kind
    assert "biased" in measured.plug_in_kind
    assert measured.auc.low <= measured.auc.value <= measured.auc.high
    assert sum(row.count for row in measured.calibration) == 2 * measured.num_answers == 32
    # The same request gives the same numbers.
    assert _pieces(shop, request)[-1].measured == measured


def test_a_run_without_discriminator_gets_a_probe_once(shop: Shop, plain: str) -> None:
    lens = Lens(shop.store, LoadedPolicies(shop.store))
    request = LensRequest(run_id=plain, work="score", prompt="1+1=", answers=["2", "a <b>"])
    first, again = _pieces(shop, request, lens), _pieces(shop, request, lens)
    judge = next(piece.judge for piece in first if piece.judge is not None)
    assert (judge.kind, judge.step) == ("probe", 2)
    assert judge.num_fitted == 24  # the held-out ones are not among them
    scored = [piece.scored for piece in first if piece.scored is not None]
    assert [answer.is_sampled for answer in scored] == [False, False]
    assert "".join(token.text for token in scored[1].tokens[:-1]) == "a <b>"
    for answer in scored:
        assert answer.tokens[-1].is_stop
        total = sum(token.increment for token in answer.tokens)
        assert total == pytest.approx(answer.tokens[-1].h)
    assert [piece.scored for piece in again if piece.scored is not None] == scored
    assert not any("training prompts" in piece.text for piece in again)


def test_a_run_with_its_own_discriminator_is_judged_by_it(shop: Shop, adversarial: str) -> None:
    request = LensRequest(run_id=adversarial, work="score", prompt="1+1=", num_samples=3, seed=5)
    pieces = _pieces(shop, request)
    (judge,) = (piece.judge for piece in pieces if piece.judge is not None)
    assert judge.kind == "discriminator"
    scored = [piece.scored for piece in pieces if piece.scored is not None]
    assert len(scored) == 3
    for answer in scored:
        assert answer.is_sampled
        assert 1 <= len(answer.tokens) <= 4  # what stands, no backspace among it


def test_a_stop_is_heard_and_errors_are_words(shop: Shop, plain: str) -> None:
    lens = Lens(shop.store, LoadedPolicies(shop.store))
    with pytest.raises(Stopped):
        lens.work(LensRequest(run_id=plain, work="measure"), lambda piece: False)
    long = LensRequest(run_id=plain, work="score", prompt="1+1=", answers=["9" * 20_000])
    with pytest.raises(DemonstrationError, match="this model reads up to"):
        _pieces(shop, long, lens)
    queued = shop.queue("queued", **SETTINGS)
    with pytest.raises(ModelLoadError, match="saved no policy yet"):
        _pieces(shop, LensRequest(run_id=queued.id, work="measure"), lens)


def test_the_command_prints_and_writes_the_same_numbers(
    shop: Shop, plain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lens.csv"
    store = ["--data-dir", str(shop.data_dir), "--run", "plain", "--csv", str(file)]
    assert main(["lens", *store, "--num-answers", "16"]) == 0
    printed = capsys.readouterr()
    rows = {(row[0], row[1]): row[2:] for row in csv.reader(file.open(encoding="utf-8"))}
    measured = _pieces(shop, LensRequest(run_id=plain, work="measure", num_answers=16))[-1].measured
    assert measured is not None
    assert float(rows["auc", ""][0]) == measured.auc.value
    assert {name for quantity, name in rows if quantity == "bound"} == set(DIVERGENCES)
    assert "lower bound in expectation" in printed.out
    assert "Writing answers" in printed.err

    assert main(["lens", *store, "--prompt", "1+1=", "--answer", "2"]) == 0
    assert "h of a probe" in capsys.readouterr().out
    assert [row[3] for row in csv.reader(file.open(encoding="utf-8"))][1] == "2"

    assert main(["lens", *store, "--answer", "2"]) == 2
    assert "--answer needs the --prompt" in capsys.readouterr().err
    assert main(["lens", *store, "--num-answers", "3"]) == 2
    assert "num_answers" in capsys.readouterr().err
