"""The lane's task "oracle": a real small experiment, streamed, stopped, and refused in words."""

import pytest
from pydantic import BaseModel

from seqmatch.exact.results import OraclePiece, OracleRequest
from seqmatch.jobs.answering import Stopped
from seqmatch.jobs.exact_experiments import experiment
from seqmatch.jobs.lane import Lane
from storage.records import TaskStatus
from tests.integration.jobs.shop import Shop

OBJECTIVES = ["exact:forward_kl", "sft"]


def submit(shop: Shop, **changes: object) -> str:
    asked = OracleRequest.model_validate({"objectives": OBJECTIVES, "seeds": [0]} | changes)
    return shop.store.tasks.submit("oracle", asked.model_dump_json()).id


def pieces(shop: Shop, task_id: str) -> list[OraclePiece]:
    outputs = shop.store.tasks.output(task_id)
    return [OraclePiece.model_validate_json(output.payload_json) for output in outputs]


def test_an_experiment_is_streamed_and_matches_enumeration(shop: Shop) -> None:
    task_id = submit(shop)
    assert Lane(shop.store).work_on_next()
    task = shop.store.tasks.get(task_id)
    assert (task.status, task.error_message) == (TaskStatus.COMPLETED, "")
    found = pieces(shop, task_id)
    assert found[0].language is not None
    runs = [piece.run for piece in found if piece.run is not None]
    assert sorted(run.objective for run in runs) == OBJECTIVES
    for run in runs:
        assert run.is_converged
        assert sum(run.law) == pytest.approx(1.0, abs=1e-9)
        assert run.loss_match is not None
        assert run.loss_match < 1e-9
    # Both minimise the forward KL of whole answers where the policy is chosen by position.
    assert runs[0].law == pytest.approx(runs[1].law, abs=1e-5)


def test_a_stopped_experiment_keeps_what_was_written(shop: Shop) -> None:
    task_id = submit(shop, objectives=["exact:reverse_kl"], seeds=list(range(50)))
    lane = Lane(shop.store)
    written = 0

    def stop_after_two_runs(piece: BaseModel) -> bool:
        nonlocal written
        written += isinstance(piece, OraclePiece) and piece.run is not None
        if written == 2:
            shop.store.tasks.cancel(task_id)
        return shop.store.tasks.append(task_id, piece.model_dump_json())

    task = shop.store.tasks.claim(lane.name)
    assert task is not None
    with pytest.raises(Stopped):
        experiment(OracleRequest.model_validate_json(task.payload_json), stop_after_two_runs)
    assert sum(piece.run is not None for piece in pieces(shop, task_id)) == 2


def test_a_table_that_cannot_be_read_says_the_line(shop: Shop) -> None:
    task_id = submit(shop, language="table", table="ab 1\nba much")
    assert Lane(shop.store).work_on_next()
    task = shop.store.tasks.get(task_id)
    assert task.status is TaskStatus.FAILED
    assert "line 2" in task.error_message
