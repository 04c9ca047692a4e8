"""What is asked of the lens and what it answers, as JSON in the store. Light: pages read it too.

h is the log ratio of the demonstrations over a run's answers, in nats: above 0 a text looks more
like a demonstration, below 0 more like the run's own.
"""

from typing import Literal

from pydantic import Field

from seqmatch.objectives.base import Frozen

Work = Literal["measure", "score"]
MIN_ANSWERS = 8
MAX_ANSWERS = 2000
MAX_SAMPLES = 8
MAX_TEXT = 20_000
"""Characters of a pasted prompt or answer."""


class LensRequest(Frozen):
    """A look at the newest policy of a run."""

    run_id: str
    work: Work
    """"measure": held-out demonstrations against fresh answers. "score": h of texts."""
    num_answers: int = Field(128, ge=MIN_ANSWERS, le=MAX_ANSWERS)
    """Of "measure": fresh answers, one to each held-out prompt; fewer where there are fewer."""
    prompt: str = Field("", max_length=MAX_TEXT)
    """Of "score": a plain text, one user turn where the model has a chat template."""
    answers: list[str] = Field(default_factory=list, max_length=MAX_SAMPLES)
    """Of "score": the texts to look at. None: the run answers by itself."""
    num_samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    """Of "score" without answers: how many are sampled, at temperature 1."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Of the sampled answers and of the probes."""


class Between(Frozen):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


class CalibrationRow(Frozen):
    """Answers with about one sigma(h)."""

    mean_probability: float
    share_data: float
    """Share of demonstrations among them."""
    count: int


class EstimateRow(Frozen):
    """What is known of one divergence."""

    name: str
    title: str
    bound: Between
    plug_in: float


class Measured(Frozen):
    """How far a run's answers are from the demonstrations, by a probe on frozen features."""

    step: int
    """Of the policy."""
    backspace: bool
    """Whether the answers were sampled with the backspace action; what stands is compared."""
    num_answers: int
    """Of each side."""
    max_new_tokens: int
    """Where answers, and demonstrations for the comparison, are cut."""
    auc: Between
    leak_auc: Between
    """The same of a probe that sees length, stop token and white space alone."""
    entropy: float
    """Mean entropy of Bernoulli(sigma(h)), in nats."""
    score_data: float
    """Mean h of whole demonstrations, in nats."""
    score_rollouts: float
    """Mean h of whole answers of the run, in nats."""
    calibration: list[CalibrationRow]
    calibration_error: float
    estimates: list[EstimateRow]
    """One for each registered divergence."""
    bound_kind: str
    """What `EstimateRow.bound` is."""
    plug_in_kind: str
    """What `EstimateRow.plug_in` is."""
    score_limit: float
    """Where h is held in the estimates, in nats."""


class Judge(Frozen):
    """Whose h it is."""

    kind: Literal["discriminator", "probe"]
    """The run's own discriminator, or a probe fitted after the fact."""
    step: int
    """Of the policy."""
    num_fitted: int = 0
    """Of a probe: training demonstrations, and as many fresh answers, that it was fitted to."""
    max_new_tokens: int
    """Where the answers were cut that it learnt from."""


class ScoredToken(Frozen):
    """One token of an answer."""

    id: int
    text: str
    """What it adds to the text; the stop token's name."""
    is_stop: bool
    h: float
    """Log ratio of the text up to and with this token."""
    increment: float
    """What this token adds to h."""


class ScoredAnswer(Frozen):
    """One answer with h at every token."""

    is_sampled: bool
    """True where the run wrote it, False where it was pasted."""
    is_finished: bool
    """False where a limit ended it before the stop token."""
    num_deletions: int = 0
    """Backspaces of a sampled answer; what stands after them is scored."""
    tokens: list[ScoredToken]


class LensPiece(Frozen):
    """The next thing to tell: where the work stands, or a result."""

    text: str = ""
    """What is being done."""
    done: int = 0
    total: int = 0
    """How much of it; 0 where that is not counted."""
    measured: Measured | None = None
    judge: Judge | None = None
    scored: ScoredAnswer | None = None
