from __future__ import annotations

from longlens.repo.pack import SYSTEM_TEXT, Pack
from longlens.repo.pieces import FileVersion, deleted_piece, file_piece
from longlens.text.tokenizer import Tokenizer
from tests.text.vocabularies import CONTROL, glm_json

TOKENIZER = Tokenizer.from_json(glm_json())
A = file_piece(FileVersion(1, "a", b"1\n"), "none", is_new=False)
B = file_piece(FileVersion(2, "b", b"2\n"), "none", is_new=False)


def test_base_changes_log_and_question_stand_in_this_order() -> None:
    pack = Pack((A, B), (deleted_piece("a", 1),)).asking(b"why", log=("l", b"3"))
    assert pack.user_bytes.decode() == "§1 a\n1\n§2 b\n2\n§1 a deleted\n§log l\n3\n§question\nwhy\n"


def test_token_ids_of_a_piece_depend_on_nothing_around_it() -> None:
    alone = Pack((A,)).token_ids(TOKENIZER.encode_bytes)
    among = Pack((B, A), (A,)).asking(b"x").token_ids(TOKENIZER.encode_bytes)
    assert among[1] == among[2] == alone[0]


def test_a_pack_is_encoded_whole_as_its_pieces_are() -> None:
    pack = Pack((A, B)).asking(b"\n\n x")
    ids = [token_id for piece in pack.token_ids(TOKENIZER.encode_bytes) for token_id in piece]
    assert TOKENIZER.encode_bytes(pack.user_bytes) == ids


def test_control_tokens_in_files_are_text() -> None:
    piece = file_piece(FileVersion(1, CONTROL[0], " ".join(CONTROL).encode()), "all", is_new=False)
    ids = Pack((piece,)).asking(" ".join(CONTROL).encode()).token_ids(TOKENIZER.encode_bytes)
    assert TOKENIZER.special_ids.isdisjoint(token_id for of_piece in ids for token_id in of_piece)


def test_the_system_text_is_the_one_that_training_has_seen() -> None:
    assert SYSTEM_TEXT == (
        "You answer questions about a repository. Its files follow, each below a line with its tag and path, then what "
        "changed since. An anchor such as §12:42 ends line 42 of the file with tag 12. "
        "Cite a place by copying its anchor."
    )
