import json
import shutil
from pathlib import Path

import pytest

from longlens.convert.folder_metadata import metadata_of_folder
from longlens.errors import ConfigError
from longlens.formats.checkpoint import open_checkpoint
from longlens.model.config_reading import read_config

FIXTURES = Path(__file__).parents[1] / "fixtures"


def metadata(folder: Path) -> dict[str, object]:
    with open_checkpoint(folder) as checkpoint:
        config = read_config(checkpoint.layout, checkpoint.metadata, checkpoint.tensors.keys()).config
        return dict(metadata_of_folder(checkpoint, config, name="Tiny Glm", file_type="F32"))


def test_the_keys_are_those_of_llama_cpps_converter() -> None:
    ours = metadata(FIXTURES / "tiny-glm")
    with open_checkpoint(FIXTURES / "tiny-glm-F32.gguf") as file:
        for key, value in ours.items():
            theirs = file.metadata[key]
            if isinstance(theirs, tuple):
                assert list(theirs) == list(value), key  # type: ignore[call-overload]
            else:
                assert theirs == (pytest.approx(value) if isinstance(value, float) else value), key
        assert file.metadata.keys() - ours.keys() == {"general.size_label", "tokenizer.ggml.add_eos_token"}


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        metadata(tmp_path / "mute")


def test_one_stop_token_is_as_good_as_a_list_of_one(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "tiny-glm", tmp_path / "one")
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    (tmp_path / "one" / "config.json").write_text(json.dumps(config | {"eos_token_id": 320}))
    assert metadata(tmp_path / "one")["tokenizer.ggml.eos_token_id"] == 320
