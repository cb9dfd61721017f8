from gguf import GGML_QUANT_VERSION, LlamaFileType

from longlens.convert.file_type import FILE_TYPE_NUMBERS, QUANTISATION_VERSION


def test_the_numbers_are_ggufs() -> None:
    names = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16"}
    for name, number in FILE_TYPE_NUMBERS.items():
        assert LlamaFileType[names.get(name, f"MOSTLY_{name}")] == number
    assert QUANTISATION_VERSION == GGML_QUANT_VERSION
