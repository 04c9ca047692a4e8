"""D15: the logits of one masked pass are those of a plain forward pass on each state alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from seqmatch.action_space import ActionSpace
from seqmatch.corruption import clean_trajectory
from seqmatch.errors import DemonstrationError
from seqmatch.single_pass import Construction, additive_mask, build_batch, is_seen
from seqmatch.types import SinglePassBatch, TokenizedDemonstration, Trajectory
from tests.oracles.refeed import reduced_prefix, refeed_layout
from tests.tiny_models import policy_of, tiny_llama

VOCAB, STOP, PAD = 13, 0, 1
SPACE = ActionSpace(VOCAB, STOP, PAD, None, True, frozenset({STOP, PAD}))
BACKSPACE = SPACE.backspace_id
CONSTRUCTIONS: list[Construction] = ["trie", "refeed"]


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    """Grouped-query attention, rotary positions, weights wide enough that logits differ."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).float().eval()


def random_trajectory(rng: np.random.Generator, num_pushes: int) -> Trajectory:
    """Random pushes and pops, some at the floor, some in a row; ends with the stop token."""
    prompt = tuple(int(x) for x in rng.integers(2, VOCAB, rng.integers(1, 5)))
    draw = rng.integers(2, VOCAB, num_pushes)
    pops = rng.random(num_pushes) < 0.45
    pushes = (*(BACKSPACE if pop else int(x) for x, pop in zip(draw, pops, strict=True)), STOP)
    labels = tuple(int(x) for x in rng.integers(2, VOCAB, len(pushes)))
    return Trajectory(prompt, labels, pushes)


def some_trajectories() -> list[Trajectory]:
    rng = np.random.default_rng(0)
    rows = [random_trajectory(rng, int(n)) for n in rng.integers(1, 12, 8)]
    return [*rows, Trajectory((4,), (5, STOP), (BACKSPACE, STOP))]


def one_pass(
    lm: LlamaForCausalLM, batch: SinglePassBatch, embeds: torch.Tensor | None = None
) -> torch.Tensor:
    inputs = {"input_ids": batch.input_ids} if embeds is None else {"inputs_embeds": embeds}
    logits: torch.Tensor = lm(
        **inputs,
        position_ids=batch.position_ids,
        attention_mask=additive_mask(batch.enters, batch.leaves, torch.float32),
        use_cache=False,
    ).logits
    return logits


def at_states(logits: torch.Tensor, batch: SinglePassBatch) -> torch.Tensor:
    index = batch.state_slot.unsqueeze(2).expand(-1, -1, logits.shape[2])
    return logits.gather(1, index)


def plain_logits(lm: LlamaForCausalLM, trajectory: Trajectory) -> torch.Tensor:
    """One forward pass a state, on its tokens alone."""
    rows = []
    for time in range(len(trajectory.pushes) + 1):
        alive = reduced_prefix(trajectory.prompt_ids, trajectory.pushes[:time], BACKSPACE)
        rows.append(lm(input_ids=torch.tensor([alive]), use_cache=False).logits[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_d15_logits_equal_a_plain_pass_on_each_state(
    llama: LlamaForCausalLM, construction: Construction
) -> None:
    trajectories = some_trajectories()
    batch = build_batch(trajectories, SPACE, construction=construction)

    with torch.no_grad():
        found = at_states(one_pass(llama, batch), batch)
        for row, trajectory in enumerate(trajectories):
            expected = plain_logits(llama, trajectory)
            torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_d15_gradients_equal_a_plain_pass_on_each_state(
    llama: LlamaForCausalLM, construction: Construction
) -> None:
    trajectories = some_trajectories()[:4]
    batch = build_batch(trajectories, SPACE, construction=construction)

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        return logits.logsumexp(-1).sum() + logits[..., 3].square().sum()

    found = at_states(one_pass(llama, batch), batch)
    num_states = batch.num_actions + 1
    terms = [loss_of(found[row, : int(n)]) for row, n in enumerate(num_states)]
    expected = [loss_of(plain_logits(llama, trajectory)) for trajectory in trajectories]
    parameters = list(llama.parameters())
    got = torch.autograd.grad(torch.stack(terms).sum(), parameters)
    wanted = torch.autograd.grad(torch.stack(expected).sum(), parameters)

    for left, right in zip(got, wanted, strict=True):
        scale = float(right.abs().max())
        torch.testing.assert_close(left, right, atol=1e-5 * max(1.0, scale), rtol=1e-4)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_d15_perturbing_a_deleted_token_changes_no_later_logits(
    llama: LlamaForCausalLM, construction: Construction
) -> None:
    pushes = (5, 6, 7, BACKSPACE, BACKSPACE, 8, STOP)
    batch = build_batch([Trajectory((3, 4), (5,) * 7, pushes)], SPACE, construction=construction)
    slots = batch.state_slot[0].tolist()
    deleted = [slots[2], slots[3]]  # the states that end with 6 and with 6 7
    embeds = llama.get_input_embeddings()(batch.input_ids).detach()
    changed = embeds.clone()
    changed[0, deleted] += 10.0

    with torch.no_grad():
        before = at_states(one_pass(llama, batch, embeds), batch)[0]
        after = at_states(one_pass(llama, batch, changed), batch)[0]

    alive = [0, 1, 4, 5, 6, 7] if construction == "refeed" else [0, 1, 5, 6, 7]
    assert torch.equal(before[alive], after[alive])
    assert not torch.allclose(before[2:4], after[2:4], atol=1e-2)


def test_trie_of_the_worked_example() -> None:
    """Clean A B C stop with noise X after A; the tables of the method's worked example."""
    a, b, c, x, bos = 3, 4, 5, 6, 2
    trajectory = Trajectory((bos,), (a, b, BACKSPACE, b, c, STOP), (a, x, BACKSPACE, b, c, STOP))

    batch = build_batch([trajectory], SPACE)

    assert batch.input_ids.tolist() == [[bos, a, x, b, c, STOP]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 3, 4]]
    assert batch.state_slot.tolist() == [[0, 1, 2, 1, 3, 4, 5]]
    assert batch.labels.tolist() == [list(trajectory.labels)]
    assert batch.can_delete.tolist() == [[False, True, True, True, True, True, True]]
    assert not batch.is_plain
    assert is_seen(batch.enters, batch.leaves)[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 1, 1, 1],
    ]


def test_refeed_equals_the_transcribed_pseudo_code() -> None:
    for trajectory in some_trajectories():
        ids, positions, mask = refeed_layout(trajectory.prompt_ids, trajectory.pushes, BACKSPACE)

        batch = build_batch([trajectory], SPACE, construction="refeed")

        assert batch.input_ids[0].tolist() == ids
        assert batch.position_ids[0].tolist() == positions
        first = len(trajectory.prompt_ids) - 1
        assert batch.state_slot[0].tolist() == list(range(first, len(ids)))
        shown = is_seen(batch.enters, batch.leaves)[0]
        assert [set(row.nonzero().flatten().tolist()) for row in shown] == mask


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_clean_rows_need_no_mask(llama: LlamaForCausalLM, construction: Construction) -> None:
    rows = [
        clean_trajectory(TokenizedDemonstration((3, 4), completion, 0), SPACE)
        for completion in ((5, 6, 7, STOP), (8, STOP))
    ]
    batch = build_batch(rows, SPACE, construction=construction)

    assert batch.is_plain
    assert batch.is_slot.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert batch.input_ids[1].tolist() == [3, 4, 8, STOP, PAD, PAD]
    with torch.no_grad():
        causal = llama(input_ids=batch.input_ids, use_cache=False).logits
        masked = one_pass(llama, batch)
    torch.testing.assert_close(causal[0], masked[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(causal[1, :4], masked[1, :4], atol=1e-5, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(0, 15))
def test_the_trie_never_has_more_slots(seed: int, num_pushes: int) -> None:
    """So it is the default: fewer slots wherever something is taken back, as many elsewhere."""
    trajectory = random_trajectory(np.random.default_rng(seed), num_pushes)

    trie, refeed = (
        int(build_batch([trajectory], SPACE, construction=how).is_slot.sum())
        for how in CONSTRUCTIONS
    )

    assert trie <= refeed
    assert (trie < refeed) is (BACKSPACE in trajectory.pushes)
    assert int(build_batch([trajectory], SPACE).is_slot.sum()) == trie


@given(st.integers(0, 2**32 - 1), st.sampled_from(CONSTRUCTIONS))
def test_batches_without_backspace_take_the_plain_causal_path(
    seed: int, construction: Construction
) -> None:
    """No mask for rows of any lengths, cut ones too; one deletion in one row brings it back."""
    rng = np.random.default_rng(seed)
    rows = [random_trajectory(rng, int(n)) for n in rng.integers(1, 9, 4)]
    kept = [tuple(2 if push == BACKSPACE else push for push in row.pushes) for row in rows]
    plain = [replace(row, pushes=pushes) for row, pushes in zip(rows, kept, strict=True)]
    deleting = Trajectory((3,), (5, BACKSPACE, 5, STOP), (6, BACKSPACE, 5, STOP))

    assert build_batch(plain, SPACE, construction=construction).is_plain
    assert not build_batch([*plain, deleting], SPACE, construction=construction).is_plain


def test_a_policy_reads_a_plain_batch_without_mask_or_positions() -> None:
    """What the backbone is called with; a four-dimensional mask would miss the fast kernels."""
    policy = policy_of(tiny_llama(VOCAB))
    stop = policy.space.eos_id
    calls: list[dict[str, object]] = []
    backbone = policy.lm.get_decoder()
    backbone.register_forward_pre_hook(lambda *call: calls.append(call[2]), with_kwargs=True)
    plain = Trajectory((3, 4), (5, 6, stop), (5, 6, stop))
    back = policy.space.backspace_id
    deleting = Trajectory((3, 4), (5, back, 5, stop), (6, back, 5, stop))

    for rows in ([plain, plain], [plain, deleting]):
        policy.state_action_values(build_batch(rows, policy.space))

    assert [call["attention_mask"] is None for call in calls] == [True, False]
    assert [call["position_ids"] is None for call in calls] == [True, False]


def test_padding_sees_itself_only_and_is_seen_by_nobody() -> None:
    batch = build_batch(some_trajectories(), SPACE)

    seen = additive_mask(batch.enters, batch.leaves, torch.float32)[:, 0] == 0.0

    for row, num_slots in enumerate(batch.is_slot.sum(dim=1).tolist()):
        assert not seen[row, :num_slots, num_slots:].any()
        assert torch.equal(
            seen[row, num_slots:], torch.eye(seen.shape[1], dtype=torch.bool)[num_slots:]
        )


def test_no_backspace_is_ever_allowed_in_a_space_without_it() -> None:
    space = ActionSpace(VOCAB, STOP, PAD, None, False, frozenset())

    batch = build_batch([Trajectory((3,), (5, STOP), (5, STOP))], space)

    assert not batch.can_delete.any()


@pytest.mark.parametrize(
    ("trajectories", "message"),
    [
        ([], "empty batch"),
        ([Trajectory((3,), (), ())], "at least one"),
        ([Trajectory((3,), (5, STOP), (5,))], "equally many"),
        ([Trajectory((3,), (BACKSPACE, STOP), (5, STOP))], "only the prompt"),
        ([Trajectory((3,), (VOCAB + 1,), (STOP,))], "does not exist"),
        ([Trajectory((), (STOP,), (STOP,))], "empty prompt"),
    ],
)
def test_build_batch_refuses_what_is_no_trajectory(
    trajectories: list[Trajectory], message: str
) -> None:
    with pytest.raises(DemonstrationError, match=message):
        build_batch(trajectories, SPACE)
