"""Locks, identities, environments, slots and logs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqmatch.jobs import attempt_files
from seqmatch.jobs.device_slots import slot_names
from seqmatch.jobs.environment import TOKEN_VARIABLE, child_environment
from seqmatch.jobs.locks import is_held, is_shared, share_lock, try_lock
from seqmatch.jobs.memory_limits import oom_kills
from seqmatch.jobs.process_tokens import (
    AttemptIdentity,
    boot_id,
    living,
    pid_namespace,
    read_identity,
    signal_all,
)

SLEEP = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]


def test_a_lock_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    lock = try_lock(path)
    assert lock is not None
    assert is_held(path)
    assert try_lock(path, patience=0.05) is None
    child = subprocess.Popen(SLEEP, pass_fds=(lock.descriptor,), stdout=subprocess.PIPE)
    lock.close()
    assert is_held(path)  # the child inherited it
    child.kill()
    child.communicate()
    assert not is_held(path)


def test_a_shared_lock_has_many_holders(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = share_lock(path), share_lock(path)
    assert not is_held(path)
    first.close()
    assert is_shared(path)
    second.close()
    assert not is_shared(path)


def test_signals_reach_the_holders_of_the_token_alone() -> None:
    token = "a" * 32
    ours, other = (
        subprocess.Popen(SLEEP, env={**os.environ, TOKEN_VARIABLE: name}, stdout=subprocess.PIPE)
        for name in (token, "b" * 32)
    )
    for process in (ours, other):
        assert process.stdout is not None
        process.stdout.readline()
    assert [process.pid for process in living(token)] == [ours.pid]
    assert signal_all(token, signal.SIGKILL) == 1
    assert ours.wait(timeout=30) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    for process in (ours, other):
        process.communicate()


def test_an_identity_is_read_back_and_knows_its_boot(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.json"
    assert read_identity(path) is None
    identity = AttemptIdentity("t", boot_id(), pid_namespace(), 12, 3.5)
    identity.write(path)
    assert read_identity(path) == identity
    assert identity.is_of_this_boot
    assert not AttemptIdentity("t", "another boot", pid_namespace()).is_of_this_boot
    path.write_text('{"token": "t", "surprise": 1}')
    assert read_identity(path) is None


def test_children_get_no_tokens_of_the_operator() -> None:
    source = {
        "PATH": "/bin",
        "HF_TOKEN": "hf_x",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_HUB_OFFLINE": "1",
    }
    environment = child_environment(source, OMP_NUM_THREADS="2")
    assert environment["PATH"] == "/bin"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & environment.keys()


def test_slots_repeat_each_device() -> None:
    assert slot_names(["cpu:0"], 1) == ["cpu:0"]
    assert slot_names(["cuda:0", "cuda:1"], 2) == ["cuda:0", "cuda:1", "cuda:0:1", "cuda:1:1"]


def test_the_kernels_count_of_memory_kills_is_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/job\n")
    assert oom_kills(tmp_path, own) is None
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert oom_kills(tmp_path, own) == 1


@pytest.mark.parametrize("max_bytes", [10, 20])
def test_a_log_is_shortened_and_old_ones_deleted(tmp_path: Path, max_bytes: int) -> None:
    log = attempt_files.log_path(tmp_path, 3)
    log.write_bytes(b"0123456789abcdefghij")
    assert attempt_files.shorten_log(log, max_bytes)
    assert log.read_bytes() == b""
    older = tmp_path / "attempt-3.log.1"
    assert older.read_bytes() == b"0123456789abcdefghij"[-max_bytes:]
    assert not attempt_files.shorten_log(log, max_bytes)
    attempt_files.log_path(tmp_path, 2).write_bytes(b"x")
    attempt_files.delete_old_logs(tmp_path, max_bytes)
    assert older.exists()
    assert not attempt_files.log_path(tmp_path, 2).exists()


def test_the_light_modules_load_no_torch() -> None:
    modules = ["runner", "shim", "supervisor", "worker", "task_types", "lane_process"]
    code = "import sys\n" + "".join(f"import seqmatch.jobs.{name}\n" for name in modules)
    code += "assert not {'torch', 'transformers', 'gradio', 'datasets'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
