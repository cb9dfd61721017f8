from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

from longlens.convert.gguf_writer import encode_header, encode_pair
from longlens.convert.kept_pairs import kept_pairs, split_pairs


def write(path: Path) -> None:
    """Metadata of every value type, an alignment of 64 and the keys of a split."""
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -3)
    writer.add_uint16("split.no", 0)
    writer.add_uint64("a.uint64", 2**40)
    writer.add_float64("a.float64", 1e300)
    writer.add_array("a.scores", [0.5, -1.5])
    writer.add_array("a.texts", ["é", ""])
    writer.add_bool("a.bool", True)
    writer.add_file_type(7)
    writer.add_tensor("t", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def fields(path: Path) -> dict[str, tuple[object, object]]:
    found = GGUFReader(path).fields
    return {name: (field.types, field.contents()) for name, field in found.items() if not name.startswith("GGUF.")}


def test_what_is_kept_has_its_types_and_values(tmp_path: Path) -> None:
    write(tmp_path / "source.gguf")
    pairs = kept_pairs(tmp_path / "source.gguf", ["general.file_type"])
    (tmp_path / "copy.gguf").write_bytes(encode_header([*pairs, encode_pair("general.file_type", 15)], []))
    before, after = fields(tmp_path / "source.gguf"), fields(tmp_path / "copy.gguf")
    assert before.keys() - after.keys() == {"general.alignment", "split.no"}
    assert after.pop("general.file_type")[1] == 15
    assert after == {name: before[name] for name in after}
    assert len(after) == 8


def test_the_keys_of_a_shard_have_llama_cpps_value_types(tmp_path: Path) -> None:
    (tmp_path / "shard.gguf").write_bytes(encode_header(split_pairs(1, 3, 100_000), []))
    found = {
        name: ([kind.name for kind in kinds], value) for name, (kinds, value) in fields(tmp_path / "shard.gguf").items()
    }
    assert found == {
        "split.no": (["UINT16"], 1),
        "split.count": (["UINT16"], 3),
        "split.tensors.count": (["INT32"], 100_000),
    }
