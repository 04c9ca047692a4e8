"""The task "generate": the answers of several policies in several modes, streamed as they come.

Every policy and mode meets the same random numbers: those of the decoding's seed, by prompt and
action index. A policy that cannot be loaded gets an error in place of its answers.
"""

import time
from collections.abc import Callable

from pydantic import BaseModel

from seqmatch.decoding.generation import Rollout, UniformSource, generate, standing_tokens
from seqmatch.errors import SeqMatchError
from seqmatch.jobs.loaded_policies import LoadedPolicies
from seqmatch.jobs.task_types import ActionCell, GenerateChunk, GenerateRequest
from seqmatch.policy import Policy
from seqmatch.text import answer_text, piece_after, render_prompt
from storage.errors import NotFoundError

STREAM_SECONDS = 0.3
Write = Callable[[BaseModel], bool]
"""Appends output; False where the task was asked to stop."""


class Stopped(Exception):  # noqa: N818 - a signal to the lane, not an error
    """The task was asked to stop."""


def answer(request: GenerateRequest, policies: LoadedPolicies, write: Write) -> None:
    """Answers a request to its end.

    Raises:
        Stopped: It was asked to stop; what was written stays.
    """
    for index, ref in enumerate(request.policies):
        for backspace in request.backspace:
            try:
                policy = policies.get(ref)
                _Answers(request, index, backspace, policy, write).run()
            except (SeqMatchError, NotFoundError, OSError) as error:
                _tell_failure(request, index, backspace, f"{ref.label}: {error}", write)


class _Answers:
    """The answers of one policy in one mode to all prompts."""

    def __init__(
        self, request: GenerateRequest, index: int, backspace: bool, policy: Policy, write: Write
    ) -> None:
        self.request = request
        self.index = index
        self.backspace = backspace
        self.policy = policy
        self.write = write
        num_prompts = len(request.prompts)
        self.standing: list[list[int]] = [[] for _ in range(num_prompts)]
        self.fresh: list[list[ActionCell]] = [[] for _ in range(num_prompts)]
        self.written_at = time.monotonic()
        self.is_stopped = False

    def run(self) -> None:
        tokenizer = self.policy.tokenizer
        rollouts = generate(
            self.policy,
            [render_prompt(tokenizer, prompt) for prompt in self.request.prompts],
            self.request.decoding,
            backspace=self.backspace,
            uniforms=UniformSource(self.request.decoding.seed),
            on_actions=self._take,
            should_stop=self._should_stop,
        )
        self._stream()
        if self.is_stopped:
            raise Stopped
        for row, rollout in enumerate(rollouts):
            self._append(self._last(row, rollout))
        if self.is_stopped:
            raise Stopped

    def _take(self, actions: list[tuple[int, int]]) -> None:
        tokenizer, space = self.policy.tokenizer, self.policy.space
        for row, action in actions:
            standing = self.standing[row]
            is_backspace = action == space.backspace_id
            text = "" if is_backspace else piece_after(tokenizer, standing, action)
            if is_backspace:
                del standing[-1:]
            else:
                standing.append(action)
            cell = ActionCell(
                id=action, text=text, is_backspace=is_backspace, is_stop=action == space.eos_id
            )
            self.fresh[row].append(cell)

    def _should_stop(self) -> bool:
        if time.monotonic() - self.written_at >= STREAM_SECONDS:
            self._stream()
        return self.is_stopped

    def _stream(self) -> None:
        for row, cells in enumerate(self.fresh):
            if cells:
                self._append(self._chunk(row, actions=cells))
                self.fresh[row] = []
        self.written_at = time.monotonic()

    def _append(self, chunk: GenerateChunk) -> None:
        self.is_stopped = not self.write(chunk) or self.is_stopped

    def _chunk(self, row: int, *, actions: list[ActionCell]) -> GenerateChunk:
        return GenerateChunk(
            policy_index=self.index, backspace=self.backspace, prompt_index=row, actions=actions
        )

    def _last(self, row: int, rollout: Rollout) -> GenerateChunk:
        backspace_id = self.policy.space.backspace_id
        standing = standing_tokens(rollout.actions, backspace_id)
        return GenerateChunk(
            policy_index=self.index,
            backspace=self.backspace,
            prompt_index=row,
            is_done=True,
            text=answer_text(self.policy.tokenizer, standing),
            is_finished=rollout.is_finished,
            num_actions=len(rollout.actions),
            num_deletions=rollout.actions.count(backspace_id),
            num_tokens=len(standing),
            has_backspace=self.policy.space.has_backspace,
        )


def _tell_failure(
    request: GenerateRequest, index: int, backspace: bool, error: str, write: Write
) -> None:
    for row in range(len(request.prompts)):
        is_going = write(
            GenerateChunk(
                policy_index=index,
                backspace=backspace,
                prompt_index=row,
                is_done=True,
                text="",
                is_finished=False,
                error=error,
            )
        )
        if not is_going:
            raise Stopped
