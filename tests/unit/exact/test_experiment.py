"""The exact experiment as the page and the command run it: pieces, stop, notes, pooled answers."""

import math

import numpy as np
import pytest

from seqmatch.divergences import divergences_of
from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.exact.experiment import MAX_LISTED, run_experiment, setting_of
from seqmatch.exact.results import OracleLanguage, OraclePiece, OracleRequest, OracleRun
from tests.oracles.f_divergences import divergence


def _pieces(**settings: object) -> list[OraclePiece]:
    pieces: list[OraclePiece] = []

    def tell(piece: OraclePiece) -> bool:
        pieces.append(piece)
        return True

    run_experiment(OracleRequest.model_validate(settings), tell)
    return pieces


def _results(pieces: list[OraclePiece]) -> tuple[OracleLanguage, list[OracleRun]]:
    assert pieces[0].language is not None
    return pieces[0].language, [piece.run for piece in pieces if piece.run is not None]


def test_the_language_comes_first_and_every_objective_before_the_next_seed() -> None:
    pieces = _pieces(objectives=["sft", "exact:reverse_kl"], seeds=[3, 1])
    language, runs = _results(pieces)

    assert [answer.text for answer in language.answers[:2]] == ["ok", "no"]
    assert language.answers[0].probability == pytest.approx(0.6)
    assert [(run.objective, run.seed) for run in runs] == [
        ("sft", 3), ("exact:reverse_kl", 3), ("sft", 1), ("exact:reverse_kl", 1)
    ]  # fmt: skip
    assert (pieces[-1].kind, pieces[-1].done, pieces[-1].total) == ("progress", 4, 4)
    assert all(run.is_converged and math.fsum(run.law) == pytest.approx(1.0) for run in runs)


def test_values_are_the_definitions_of_the_law_that_is_shown() -> None:
    language, (run,) = _results(_pieces(objectives=["gem"], seeds=[0]))
    data = [answer.probability for answer in language.answers]

    assert list(run.divergences) == language.measured == list(divergences_of("exact"))
    for name, value in run.divergences.items():
        expected = divergence(name, np.array(data), np.array(run.law))
        assert value == pytest.approx(expected, rel=1e-9)


def test_a_corner_at_the_optimum_is_no_difference_between_loss_and_enumeration() -> None:
    _, (run,) = _results(
        _pieces(
            language="geometric",
            objectives=["exact:total_variation"],
            seeds=[0],
            level="occupancy",
        )
    )

    assert run.loss_match is not None
    assert run.loss_match < 1e-12
    assert not run.is_converged


def test_what_is_infinite_for_every_policy_is_said_and_not_trained() -> None:
    pieces = _pieces(language="trap", objectives=["exact:reverse_kl", "sft"], seeds=[0])
    _, runs = _results(pieces)
    notes = [piece.text for piece in pieces if piece.kind == "note"]

    assert [run.objective for run in runs] == ["sft"]
    assert len(notes) == 1
    assert notes[0].startswith("exact:reverse_kl is not trained: it is infinite")
    assert runs[0].divergences["reverse_kl"] == math.inf
    assert runs[0].divergences["forward_kl"] < 1.0


def test_what_the_product_warns_of_is_said_here_too() -> None:
    pieces = _pieces(objectives=["forward_kl_occupancy:paper"], seeds=[0])

    (note,) = [piece.text for piece in pieces if piece.kind == "note"]
    assert note.startswith("forward_kl_occupancy:paper: ")
    assert "the stop token" in note


def test_a_large_language_is_said_to_take_long() -> None:
    table = "abcde 1\nfgabc 1"
    pieces: list[OraclePiece] = []

    def tell(piece: OraclePiece) -> bool:
        pieces.append(piece)
        return piece.kind != "note"

    run_experiment(
        OracleRequest(language="table", table=table, objectives=["sft"], seeds=[0]), tell
    )

    assert "39,216 states" in pieces[-1].text
    assert "may take minutes" in pieces[-1].text


def test_the_trap_is_left_by_backspace_and_decodes_agree() -> None:
    _, runs = _results(
        _pieces(
            language="trap",
            objectives=["sft", "sequence_match:chi_square_mixture"],
            seeds=[0, 1],
            num_simulated=200_000,
        )
    )

    for run in runs:
        exact, counted = run.off_data_probability, run.off_data_probability_simulated
        assert run.off_data_probability_masked is not None
        assert counted is not None
        assert 0.0 < exact < run.off_data_probability_masked
        assert abs(counted - exact) <= 4.5 * math.sqrt(exact * (1 - exact) / 200_000)


@pytest.mark.parametrize("num_pieces", [1, 2, 6])
def test_it_stops_where_the_reader_says_so(num_pieces: int) -> None:
    pieces: list[OraclePiece] = []

    def tell(piece: OraclePiece) -> bool:
        pieces.append(piece)
        return len(pieces) < num_pieces

    run_experiment(OracleRequest(objectives=["exact:jensen_shannon"], seeds=[0, 1]), tell)

    assert len(pieces) == num_pieces


def test_a_pasted_table_pools_what_is_too_much_to_list() -> None:
    language, (run,) = _results(
        _pieces(
            language="table",
            table="abcd 3\nbcda 2\ncd 1\n",
            objectives=["exact:forward_kl"],
            seeds=[0],
            policy="by_position",
        )
    )

    assert language.policy == "by_position"
    assert len(language.answers) == MAX_LISTED
    assert [answer.text for answer in language.answers[:3]] == ["abcd", "bcda", "cd"]
    assert language.answers[-1].text == f"{language.num_pooled} others"
    assert math.fsum(run.law) == pytest.approx(1.0)


def test_bad_requests_say_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown language 'klingon'; known: .*two_modes"):
        setting_of(OracleRequest(language="klingon"))
    with pytest.raises(ConfigError, match="line 1"):
        setting_of(OracleRequest(language="table", table="a b c"))
