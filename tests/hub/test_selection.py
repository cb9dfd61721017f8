from __future__ import annotations

import pytest

from longlens.errors import ModelNotFoundError, UsageError
from longlens.hub.selection import Selection, choose_files, choose_model, missing_shards

REPOSITORY = "a/b"
SHARDS = tuple(f"UD-Q2_K_XL/m-UD-Q2_K_XL-0000{n}-of-00003.gguf" for n in (1, 2, 3))


@pytest.mark.parametrize("quant", ["Q8_0", "q8_0"])
def test_a_quantisation_is_found_in_any_case(quant: str) -> None:
    names = ["m-Q4_K_M.gguf", "m-Q8_0.gguf"]
    assert choose_model(names, REPOSITORY, quant) == Selection(("m-Q8_0.gguf",), ("m-Q8_0.gguf",))


def test_the_default_is_q4_k_m_and_a_choice_is_said() -> None:
    chosen = choose_model(["m-IQ1_S.gguf", "m-Q4_K_M.gguf"], REPOSITORY, None)
    assert chosen.files == ("m-Q4_K_M.gguf",)
    assert chosen.note == "of 2 models, Q4_K_M is taken"


def test_without_the_default_the_first_by_name_is_taken_and_said() -> None:
    chosen = choose_model(["m-Q8_0.gguf", "m-Q5_K_M.gguf"], REPOSITORY, None)
    assert chosen.files == ("m-Q5_K_M.gguf",)
    assert "the first is taken: m-Q5_K_M" in (chosen.note or "")


def test_a_split_model_comes_with_all_shards_in_order_and_opens_at_the_first() -> None:
    chosen = choose_model([*reversed(SHARDS), "m-Q4_K_M.gguf"], REPOSITORY, "ud-q2_k_xl")
    assert (chosen.files, chosen.entries) == (SHARDS, SHARDS[:1])


@pytest.mark.parametrize("quant", ["Q4_K", "Q4", "4_K_M", "K_M"])
def test_a_part_of_a_quantisations_name_is_not_its_name(quant: str) -> None:
    with pytest.raises(ModelNotFoundError, match="it has: Q4_K_M"):
        choose_model(["m-Q4_K_M.gguf"], REPOSITORY, quant)


def test_an_exact_name_goes_before_one_that_ends_in_it() -> None:
    names = ["m-Q2_K_XL.gguf", "m-UD-Q2_K_XL.gguf"]
    assert choose_model(names, REPOSITORY, "Q2_K_XL").files == ("m-Q2_K_XL.gguf",)
    assert choose_model(names[1:], REPOSITORY, "Q2_K_XL").files == ("m-UD-Q2_K_XL.gguf",)


def test_several_models_of_a_quantisation_are_listed() -> None:
    with pytest.raises(UsageError, match=r"2 models in a/b are Q8_0: x-Q8_0.gguf, y-Q8_0.gguf"):
        choose_model(["y-Q8_0.gguf", "x-Q8_0.gguf"], REPOSITORY, "Q8_0")


def test_projectors_and_importance_matrices_are_no_models() -> None:
    names = ["mmproj-F16.gguf", "imatrix_x.gguf", "m-F16.gguf"]
    assert choose_model(names, REPOSITORY, "F16").files == ("m-F16.gguf",)
    assert choose_model(names, REPOSITORY, None).files == ("m-F16.gguf",)


def test_a_split_model_without_all_its_shards_is_refused_by_name() -> None:
    with pytest.raises(ModelNotFoundError, match=f"lacks 1 shards of a split model: {SHARDS[1]}"):
        choose_model([SHARDS[0], SHARDS[2]], REPOSITORY, None)
    with pytest.raises(ModelNotFoundError, match="model-00002-of-00002"):
        choose_model(["config.json", "model-00001-of-00002.safetensors"], REPOSITORY, None)


def test_a_safetensors_model_brings_small_files_first_and_nothing_else() -> None:
    weights = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    side = ["chat_template.jinja", "config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"]
    others = ["README.md", "figure.png", "pytorch_model.bin", "consolidated.safetensors", "onnx/config.json"]
    chosen = choose_model([*weights, *others, *side], REPOSITORY, None)
    assert chosen == Selection((*side, *weights), ("",))


def test_one_whole_file_goes_before_shards() -> None:
    names = ["config.json", "model.safetensors", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]
    assert choose_model(names, REPOSITORY, None).files == ("config.json", "model.safetensors")


def test_a_quantisation_chooses_gguf_in_a_repository_with_both() -> None:
    names = ["config.json", "model.safetensors", "m-Q8_0.gguf"]
    assert choose_model(names, REPOSITORY, "Q8_0").files == ("m-Q8_0.gguf",)
    assert choose_model(names, REPOSITORY, None).entries == ("",)


def test_a_quantisation_of_safetensors_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="leave it out"):
        choose_model(["config.json", "model.safetensors"], REPOSITORY, "Q8_0")


@pytest.mark.parametrize("names", [[], ["README.md"], ["config.json", "pytorch_model.bin"], ["model.safetensors"]])
def test_a_repository_without_a_model_is_refused(names: list[str]) -> None:
    with pytest.raises(ModelNotFoundError, match="holds neither"):
        choose_model(names, REPOSITORY, None)


def test_files_are_found_by_path_or_by_a_name_that_is_there_once() -> None:
    names = ["x/a.txt", "y/b.txt", "z/b.txt"]
    assert choose_files(names, REPOSITORY, ["a.txt", "y/b.txt"]).files == ("x/a.txt", "y/b.txt")
    with pytest.raises(UsageError, match=r"y/b\.txt, z/b\.txt"):
        choose_files(names, REPOSITORY, ["b.txt"])
    with pytest.raises(ModelNotFoundError, match=r"did you mean x/a.txt\?"):
        choose_files(names, REPOSITORY, ["x/a.text"])


def test_a_shard_that_is_named_twice_comes_once_with_the_others() -> None:
    chosen = choose_files(SHARDS, REPOSITORY, [SHARDS[2], SHARDS[1]])
    assert (chosen.files, chosen.entries) == (SHARDS, SHARDS[:1])


def test_missing_shards_are_what_the_numbers_promise() -> None:
    assert missing_shards([SHARDS[0], "m.gguf"]) == list(SHARDS[1:])
    assert missing_shards(SHARDS) == []
