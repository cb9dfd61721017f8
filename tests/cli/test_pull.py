from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import FIXTURES, TINY, fault_and_mend
from tests.hub.hub_process import COMMIT, HubProcess, hub_process

MIB = 1024**2
REPOSITORY = "someone/small-GGUF"
Q4, Q8 = "small-Q4_K_M.gguf", "small-Q8_0.gguf"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with hub_process(tmp_path) as process:
        process.publish(REPOSITORY, {Q4: Path(TINY).read_bytes(), Q8: b"8" * 1000, "README.md": b"read me"})
        yield process


def pulled_path(result: subprocess.CompletedProcess[bytes]) -> Path:
    assert result.returncode == 0, result.stderr.decode()
    return Path(result.stdout.decode().removesuffix("\n"))


def test_the_usual_quantisation_comes_into_the_shared_cache_and_its_path_is_printed(hub: HubProcess) -> None:
    path = pulled_path(hub.longlens("pull", REPOSITORY))
    assert path == hub.snapshot(REPOSITORY) / Q4
    assert path.read_bytes() == Path(TINY).read_bytes()
    assert path.is_symlink()
    assert (hub.cache / "models--someone--small-GGUF" / "refs" / "main").read_text() == COMMIT
    assert hub.partials() == []


def test_what_was_pulled_is_found_without_a_network(hub: HubProcess) -> None:
    before = hub.longlens("inspect", f"{REPOSITORY}:q4_k_m")
    assert fault_and_mend(before)[1] == f"longlens pull {REPOSITORY}:q4_k_m"
    pulled_path(hub.longlens("pull", f"{REPOSITORY}:q4_k_m"))
    asked = len(hub.requests())
    after = hub.longlens("inspect", f"{REPOSITORY}:q4_k_m")
    assert after.returncode == 0
    assert b"glm-dsa" in after.stdout
    assert len(hub.requests()) == asked


def test_what_lies_in_the_cache_is_not_downloaded_again(hub: HubProcess) -> None:
    pulled_path(hub.longlens("pull", REPOSITORY))
    fetched = len(hub.contents())
    again = hub.longlens("pull", REPOSITORY)
    assert pulled_path(again).is_file()
    assert len(hub.contents()) == fetched
    assert b"1 were here, 0 B downloaded" in again.stderr


def test_a_safetensors_repository_comes_with_all_that_it_needs(hub: HubProcess) -> None:
    files = {path.name: path.read_bytes() for path in (FIXTURES / "tiny-glm").iterdir()}
    hub.publish("someone/tiny", files | {"README.md": b"#", "training.bin": b"x", "old/model.safetensors": b"y"})
    path = pulled_path(hub.longlens("pull", "someone/tiny"))
    assert path.samefile(hub.snapshot("someone/tiny"))
    assert {entry.name for entry in path.iterdir()} == set(files)
    assert hub.longlens("inspect", "someone/tiny").returncode == 0


def test_one_shard_brings_the_others_into_a_folder(hub: HubProcess) -> None:
    shards = [f"Q2/m-0000{n}-of-00002.gguf" for n in (1, 2)]
    hub.publish("someone/split", {name: name.encode() for name in shards})
    folder = hub.root / "models"
    path = pulled_path(hub.longlens("pull", "someone/split", shards[1], "--local-dir", str(folder)))
    assert path == folder / shards[0]
    assert [(folder / name).read_text() for name in shards] == shards
    assert not hub.cache.exists()


def test_a_folder_takes_from_the_cache_what_is_there(hub: HubProcess) -> None:
    cached = pulled_path(hub.longlens("pull", REPOSITORY))
    fetched = len(hub.contents())
    path = pulled_path(hub.longlens("pull", REPOSITORY, Q4, "--local-dir", str(hub.root / "models")))
    assert path.samefile(cached)
    assert not path.is_symlink()
    assert len(hub.contents()) == fetched


def test_json_tells_files_and_where_they_came_from(hub: HubProcess) -> None:
    answer = json.loads(hub.longlens("pull", REPOSITORY, "--json").stdout)
    path = str(hub.snapshot(REPOSITORY) / Q4)
    assert (answer["commit"], answer["paths"]) == (COMMIT, [path])
    size = Path(TINY).stat().st_size
    assert answer["files"] == [{"name": Q4, "path": path, "bytes": size, "was_here": False}]


def test_a_connection_that_breaks_half_way_is_resumed_at_the_byte(hub: HubProcess) -> None:
    content = os.urandom(3 * MIB)
    hub.publish("someone/big", {"m-Q8_0.gguf": content})
    hub.fail("someone/big", break_at={"m-Q8_0.gguf": 2 * MIB})
    assert pulled_path(hub.longlens("pull", "someone/big")).read_bytes() == content
    ranges = [request["range"] for request in hub.contents() if request["port"] == hub.ports[1]]
    assert ranges == [f"bytes=0-{3 * MIB - 1}", f"bytes={2 * MIB}-{3 * MIB - 1}"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_download_that_is_stopped_goes_on_where_it_was(hub: HubProcess, number: signal.Signals, code: int) -> None:
    content = os.urandom(2 * MIB)
    hub.publish("someone/big", {"m-Q8_0.gguf": content})
    hub.fail("someone/big", piece_bytes=65536, piece_wait_s=0.25)
    with subprocess.Popen(
        hub.command("pull", "someone/big"),
        env=hub.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A run in the background ignores SIGINT and hands that on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while sum(path.stat().st_size for path in hub.partials()) < 262144 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, b"")
    assert code < 0 or b"the same command goes on where it stopped" in errors
    assert not (hub.snapshot("someone/big") / "m-Q8_0.gguf").exists()
    kept = sum(path.stat().st_size for path in hub.partials())
    hub.fail("someone/big")
    assert pulled_path(hub.longlens("pull", "someone/big")).read_bytes() == content
    assert kept >= 262144
    assert hub.contents()[-1]["range"] == f"bytes={kept}-{2 * MIB - 1}"


def test_a_wrong_checksum_is_said_and_nothing_is_kept(hub: HubProcess) -> None:
    hub.fail(REPOSITORY, wrong=[Q4])
    result = hub.longlens("pull", REPOSITORY)
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "another checksum" in fault
    assert "it was removed" in fault
    assert "again" in mend
    assert hub.partials() == []
    assert not (hub.snapshot(REPOSITORY) / Q4).exists()


def test_a_download_that_does_not_fit_the_disk_is_refused_before_it_begins(hub: HubProcess) -> None:
    hub.fail(REPOSITORY, sizes={Q4: 2**60})
    result = hub.longlens("pull", REPOSITORY)
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "the download needs 1048576.0 TiB" in fault
    assert "--local-dir" in mend
    assert hub.contents() == []


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"status": 404, "code": "RepoNotFound"}, "has no someone/small-GGUF, or does not show it"),
        ({"status": 401}, "does not show it (it answers 401)"),
        ({"status": 403, "code": "GatedRepo"}, "not open to everybody"),
        ({"status": 500}, "answers 500"),
        ({"wait_s": 5}, "cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_a_fault_with_a_mend(hub: HubProcess, faults: dict[str, object], words: str) -> None:
    hub.fail(REPOSITORY, **faults)
    result = hub.longlens("pull", REPOSITORY, HF_HUB_ETAG_TIMEOUT="1")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert words in fault
    assert mend


def test_without_a_network_nothing_is_claimed(hub: HubProcess) -> None:
    result = hub.longlens("pull", REPOSITORY, HF_ENDPOINT="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "cannot be reached" in fault_and_mend(result)[0]
    offline = hub.longlens("pull", REPOSITORY, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in fault_and_mend(offline)[0]
    assert hub.requests() == []


@pytest.mark.parametrize("way", ["variable", "option"])
def test_a_token_opens_a_private_repository_and_goes_to_the_hub_alone(hub: HubProcess, way: str) -> None:
    hub.fail(REPOSITORY, token="secret")
    assert "HF_TOKEN" in fault_and_mend(hub.longlens("pull", REPOSITORY))[1]
    words = ["--token", "secret"] if way == "option" else []
    pulled_path(hub.longlens("pull", REPOSITORY, *words, **({"HF_TOKEN": "secret"} if way == "variable" else {})))
    at_hub, elsewhere = ([r for r in hub.contents() if r["port"] == port] for port in hub.ports)
    assert {request.get("authorization") for request in at_hub} == {"Bearer secret"}
    assert {request.get("authorization") for request in elsewhere} == {None}


def test_requests_tell_nothing_about_the_machine(hub: HubProcess) -> None:
    pulled_path(hub.longlens("pull", REPOSITORY))
    assert {request["user-agent"] for request in hub.requests()} == {"longlens"}
    assert {request["path"].split("/")[1] for request in hub.requests()} == {"api", "someone"}


def test_the_articles_name_is_answered_without_a_network(hub: HubProcess) -> None:
    result = hub.longlens("pull", "z-ai/GLM-5.2-64B-GGUF")
    fault, mend = fault_and_mend(result)
    assert result.returncode == 1
    assert "does not exist" in fault
    assert "zai-org/GLM-5.2" in fault
    assert "753,329,940,480" in fault
    assert "1,507 GB in 282 shards" in fault
    assert "this machine has" in mend
    assert hub.requests() == []


def test_several_models_of_one_quantisation_are_listed(hub: HubProcess) -> None:
    hub.publish("someone/two", {"a-Q4_K_M.gguf": b"a", "b-Q4_K_M.gguf": b"b"})
    result = hub.longlens("pull", "someone/two:Q4_K_M")
    assert result.returncode == 2
    assert "a-Q4_K_M.gguf, b-Q4_K_M.gguf" in fault_and_mend(result)[0]


@pytest.mark.parametrize("words", [["./model.gguf"], ["pocket"], [f"{REPOSITORY}:Q8_0", Q8], []])
def test_a_reference_that_names_no_repository_is_wrong_usage(hub: HubProcess, words: list[str]) -> None:
    result = hub.longlens("pull", *words)
    fault_and_mend(result)
    assert result.returncode == 2


def test_a_folder_that_is_called_like_the_organisation_does_not_hide_the_repository(
    hub: HubProcess, tmp_path: Path
) -> None:
    (tmp_path / "here" / "someone").mkdir(parents=True)
    result = subprocess.run(
        hub.command("pull", f"{REPOSITORY}:Q8_0"),
        cwd=tmp_path / "here",
        env=hub.environment(),
        capture_output=True,
        check=False,
    )
    assert pulled_path(result).read_bytes() == b"8" * 1000


def test_a_terminal_sees_rate_and_time_to_go(hub: HubProcess) -> None:
    hub.publish("someone/big", {"m-Q8_0.gguf": os.urandom(2 * MIB)})
    hub.fail("someone/big", piece_bytes=131072, piece_wait_s=0.25)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        hub.command("pull", "someone/big"), env=hub.environment(TERM="xterm"), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while piece := read_terminal(ours):
            seen += piece
        process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert b"pulling" in seen
    assert b"MB/s" in seen or b"MiB/s" in seen or b"kB/s" in seen
    assert b"/2.0" in seen.replace(b" ", b"")


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side was closed
        return b""
