"""What people write to name a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longlens.errors import ModelNotFoundError, UsageError
from longlens.hub.reference import (
    HubReference,
    LocalReference,
    PocketReference,
    parse_reference,
    resolve_local,
)

GLM = "zai-org/GLM-5.2"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "prefix", ["", "hf:", "hf.co/", "huggingface.co/", "https://huggingface.co/", "https://hf.co/"]
)
def test_a_repository_may_be_written_in_every_usual_way(prefix: str) -> None:
    assert parse_reference(prefix + GLM) == HubReference(GLM)
    assert parse_reference(f"{prefix}{GLM}:Q4_K_M") == HubReference(GLM, "Q4_K_M")


def test_a_link_may_end_in_a_slash() -> None:
    assert parse_reference(f"https://huggingface.co/{GLM}/") == HubReference(GLM)


def test_a_quant_may_have_dots_and_dashes() -> None:
    assert parse_reference("unsloth/GLM-5.2-GGUF:UD-Q4_K_XL") == HubReference("unsloth/GLM-5.2-GGUF", "UD-Q4_K_XL")


def test_pocket_is_the_model_that_comes_along(here: Path) -> None:
    assert parse_reference("pocket") == PocketReference()
    (here / "pocket").mkdir()
    assert parse_reference("pocket") == PocketReference()
    assert parse_reference("./pocket") == LocalReference(Path("pocket"))


def test_what_exists_is_a_path(here: Path) -> None:
    (here / "zai-org" / "GLM-5.2").mkdir(parents=True)
    (here / "model").touch()
    assert parse_reference(GLM) == LocalReference(Path(GLM))
    assert parse_reference("model") == LocalReference(Path("model"))
    assert parse_reference(f"hf:{GLM}") == HubReference(GLM)


@pytest.mark.parametrize(
    "text",
    ["/models/glm", "./a/b", "../a/b", "a/b/c", "a/model.gguf", "model.gguf", "a/model.safetensors", "a b/c", "glm"],
)
def test_what_looks_like_a_path_is_one_although_it_does_not_exist(text: str) -> None:
    assert parse_reference(text) == LocalReference(Path(text))


def test_a_name_in_a_folder_that_is_here_is_a_path(here: Path) -> None:
    (here / "models").mkdir()
    assert parse_reference("models/smol") == LocalReference(Path("models/smol"))
    assert parse_reference("modles/smol") == HubReference("modles/smol")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["hf:", "hf:glm", "hf:a/b/c", "hf:a/b:", "hf:a/b:Q4:Q5", "hf.co/../x", "hf:a b/c"])
def test_a_prefix_without_a_repository_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no repository"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "é/è", "\udcff"])
def test_any_text_leads_to_a_reference_or_a_refusal(text: str) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve_local(parse_reference(text))


def test_a_path_that_exists_resolves_to_itself(here: Path) -> None:
    (here / "m.gguf").touch()
    assert resolve_local(parse_reference("m.gguf")) == Path("m.gguf")
    assert resolve_local(parse_reference(str(here))) == here


def test_a_missing_path_names_the_nearest(here: Path) -> None:
    (here / "SmolLM2.gguf").touch()
    (here / "other.txt").touch()
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_local(parse_reference("SmolLM.gguf"))
    assert caught.value.fault == "there is no file SmolLM.gguf"
    assert caught.value.mend == "did you mean SmolLM2.gguf?"


def test_a_missing_folder_names_the_nearest_folder(here: Path) -> None:
    (here / "models").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"did you mean models\?"):
        resolve_local(LocalReference(Path("modles/deep/x.gguf")))


def test_a_missing_path_that_is_like_nothing_says_so() -> None:
    with pytest.raises(ModelNotFoundError, match="check the path"):
        resolve_local(LocalReference(Path("x.gguf")))


def test_a_repository_that_was_not_pulled_says_how_to_do_it(here: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_local(HubReference(GLM, "Q4_K_M"), cache=here)
    assert caught.value.fault == f"{GLM}:Q4_K_M is not on this machine, or not whole"
    assert caught.value.mend == f"longlens pull {GLM}:Q4_K_M"


def test_a_repository_that_was_pulled_leads_to_its_file(here: Path) -> None:
    file = here / "models--a--b" / "snapshots" / "0" / "m-Q8_0.gguf"
    file.parent.mkdir(parents=True)
    file.touch()
    assert resolve_local(HubReference("a/b", "q8_0"), cache=here) == file


def test_resolving_loads_no_http_client() -> None:
    probe = "import sys, longlens.hub.reference; sys.exit(any(m.startswith('http') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_pocket_lies_in_the_package() -> None:
    assert resolve_local(PocketReference()).read_bytes()[:4] == b"GGUF"


def test_a_package_without_pocket_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("longlens.hub.reference.POCKET_FILE", tmp_path / "pocket.gguf")
    with pytest.raises(ModelNotFoundError, match="embedded model is missing"):
        resolve_local(PocketReference())
