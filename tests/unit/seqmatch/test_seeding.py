import subprocess
import sys

from seqmatch.seeding import child_seed, generator


def test_child_seed_is_the_same_in_another_process() -> None:
    code = "from seqmatch.seeding import child_seed; print(child_seed(7, 'noise', 3))"

    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(other.stdout) == child_seed(7, "noise", 3)


def test_child_seed_separates_names() -> None:
    seeds = {
        child_seed(0, "a", "b"),
        child_seed(0, "ab"),
        child_seed(0, "b", "a"),
        child_seed(0, "a", 1),
        child_seed(0, "a", "1"),
        child_seed(1, "a", "b"),
        child_seed(0),
    }

    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generator_repeats_and_differs_by_name() -> None:
    first, again, other = (generator(5, *n).random(4).tolist() for n in ("x", "x", "y"))

    assert first == again
    assert first != other
