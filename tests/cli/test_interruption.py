from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longlens.chat.conversation import conversation_of
from longlens.cli.interruption import interruptible
from longlens.formats.checkpoint import open_checkpoint
from tests.cli.terminal import TINY, environment


def test_the_first_signal_raises_the_flag_and_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert interruption.flag.is_cancelled
        assert interruption.exit_code == 130
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_signal_the_exit_code_is_zero() -> None:
    with interruptible() as interruption:
        assert interruption.exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_answer_with_what_is_there(number: int, code: int) -> None:
    command = [sys.executable, "-m", "longlens", "run", "-m", TINY, "-p", "x", "--raw", "--temp", "1", "--seed", "3"]
    with open_checkpoint(Path(TINY)) as checkpoint:
        stop_ids = conversation_of(checkpoint).tokenizer.stop_ids
    # Without its stop ids the model goes on to the end of its context, many seconds from here.
    bias = [word for token_id in sorted(stop_ids) for word in ("-l", f"{token_id}-inf")]
    process = subprocess.Popen(
        [*command, *bias, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"before prefill" in line:
            break
    time.sleep(0.4)
    process.send_signal(number)
    started = time.perf_counter()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors.decode()
    assert json.loads(output)["finish_reason"] == "cancelled"
    assert time.perf_counter() - started < 3
