from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longlens.cli import ask, long_prompt, main
from tests.ask.repositories import make_repository
from tests.cli.terminal import TINY, fault_and_mend, longlens

MODEL = ("-m", TINY, "-c", "2048", "-n", "8", "--temp", "0")


def test_answer_and_places_are_on_stdout_and_the_log_on_stderr(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "my repository é")
    result = longlens("ask", *MODEL, "--cache-dir", str(tmp_path / "cache"), str(root), "where is focus defined?")
    log = result.stderr.decode()
    assert result.returncode == 0, log
    assert "looked at:" in result.stdout.decode()
    assert re.search(r"^  (README\.md|src/lens\.py|src/light\.py):\d+", result.stdout.decode(), re.MULTILINE)
    assert "pack: 3 files, base" in log
    assert "(new), 0 changes 0 tokens" in log
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_second_question_after_an_edit_keeps_the_base(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    command = ("ask", *MODEL, "--cache-dir", str(tmp_path / "cache"), "--json", "-q", str(root))
    first = json.loads(longlens(*command, "where?").stdout)
    (root / "src/light.py").write_text("import lens\n\n\ndef glow():\n    return lens.focus(3)\n")
    (root / "new.py").write_text("def fresh():\n    pass\n")
    (root / "README.md").unlink()
    second = json.loads(longlens(*command, "where?").stdout)
    assert (first["pack"]["is_new_base"], second["pack"]["is_new_base"]) == (True, False)
    assert second["pack"]["base_tokens"] == first["pack"]["base_tokens"]
    assert second["pack"]["changes"] == 3
    grown = second["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens"]
    assert grown == second["pack"]["changes_tokens"]


def test_json_has_the_contracts_fields(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    result = longlens("ask", *MODEL, "--no-store", "--json", "-q", str(root), "where?")
    found = json.loads(result.stdout)
    for field in ("text", "reasoning", "finish_reason", "usage", "timings", "places", "model", "plan"):
        assert field in found
    assert set(found["places"][0]) == {"path", "start", "end", "share"}


def test_verbose_names_what_was_left_out(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    (root / "image.png").write_bytes(b"\x89PNG\x00\x00")
    log = longlens("ask", *MODEL, "--no-store", "-v", str(root), "where?").stderr.decode()
    assert "left out: image.png: " in log


def test_a_log_file_stands_before_the_question(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    (tmp_path / "build.log").write_text("error: out of focus\n" * 3)
    command = ("ask", *MODEL, "--no-store", "--json", "-q")
    plain = json.loads(longlens(*command, str(root), "why?").stdout)
    logged = json.loads(longlens(*command, "--log", str(tmp_path / "build.log"), str(root), "why?").stdout)
    assert logged["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "takes a question"),
        (["a", "b", "c"], "takes a question"),
        (["no-such-folder", "where?"], "is not a folder"),
        ([""], "question is empty"),
        (["--line-numbers", "some", "where?"], "line-numbers"),
    ],
)
def test_what_is_no_question_is_wrong_usage(words: list[str], shown: str, tmp_path: Path) -> None:
    result = longlens("ask", *MODEL, "--cache-dir", str(tmp_path), "-q", *words)
    fault, _ = fault_and_mend(result)
    assert result.returncode == 2
    assert shown in fault


def test_a_folder_without_a_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = longlens("ask", *MODEL, "--no-store", "-q", str(tmp_path / "empty"), "where?")
    fault_and_mend(result)
    assert result.returncode == 2


def test_a_missing_log_file_is_a_fault(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repository")
    result = longlens("ask", *MODEL, "--no-store", "-q", "--log", str(tmp_path / "no.log"), str(root), "why?")
    fault, _ = fault_and_mend(result)
    assert "no.log" in fault
    assert result.returncode == 1


def test_a_very_long_prompt_is_read_only_when_somebody_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repository(tmp_path / "repository")
    command = ["ask", *MODEL, "--cache-dir", str(tmp_path / "cache"), "-q", str(root), "where?"]
    monkeypatch.setattr(long_prompt, "LONG_PROMPT_TOKENS", 100)
    assert main(command) == 2
    unasked = capsys.readouterr()
    assert unasked.out == ""
    assert "add --yes" in unasked.err
    assert main([*command, "--yes"]) == 0
    agreed = capsys.readouterr()
    assert "looked at:" in agreed.out
    assert "tokens; the first token of the answer: not known" in agreed.err


def test_a_prompt_that_nobody_wants_to_wait_for_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repository(tmp_path / "repository")
    monkeypatch.setattr(ask, "agrees_to_wait", lambda *_, **__: False)
    assert main(["ask", *MODEL, "--no-store", "-q", str(root), "where?"]) == 1
    refused = capsys.readouterr()
    assert refused.out == ""
    assert refused.err.splitlines()[0] == "the repository was not read"
