"""Whether healthy runs raise flags: short adversarial runs over many seeds.

`python -m benchmarks.flags --seeds 20`: 200 steps each on 600 rows of `arithmetic` with
`byte-llama-small`, half of them imitation, as tests/integration/test_flags_in_training.py runs two.
Prints a line a seed and how many seeds raised any flag; with n seeds and none, the 95 % upper bound
on the rate is 1 - 0.05^(1/n).
"""

import argparse
import sys
import tempfile
from pathlib import Path

from seqmatch.training import carry_on
from tests.integration.test_flags_in_training import flags, start
from tests.short_runs import Recorder


def main() -> int:
    """Runs the seeds, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    num_seeds = parser.parse_args().seeds
    num_flagged = 0
    for seed in range(num_seeds):
        recorder = Recorder()
        with tempfile.TemporaryDirectory() as folder:
            result = carry_on(start(Path(folder), recorder, {"seed": seed}))
        raised = flags(recorder)
        num_flagged += bool(raised)
        print(f"seed {seed}: {result.status}, {', '.join(raised) or 'no flag'}", flush=True)
    print(f"{num_flagged} of {num_seeds} seeds raised a flag")
    if not num_flagged:
        print(f"95 % upper bound on the rate: {1 - 0.05 ** (1 / num_seeds):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
