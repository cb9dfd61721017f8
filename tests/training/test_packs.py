from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from longlens.repo.anchors import anchored
from longlens.repo.pack import SYSTEM_TEXT
from training.pocket import packs, tokenise, tokenizer
from training.pocket.licences import is_permissive, licences_of
from training.pocket.shelf import Shelf, Vocabulary

SOURCE = '''import os


def read_file(path):
    """Return the bytes of a file."""
    return open(path).read()


class Reader:
    """Reads."""

    def next_line(self):
        return 1


''' + "".join(f"value_{number} = {number}\n" for number in range(60))


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    """Bytes, the sign of anchors and the special tokens, cut as pocket's tokenizer cuts."""
    merges = [("Â", "§"), ("Ġ", "Â§")]
    texts = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    model = models.BPE(vocab={text: number for number, text in enumerate(texts)}, merges=merges, ignore_merges=True)
    whole = Tokenizer(model)
    whole.pre_tokenizer = tokenizer.cutting()
    whole.decoder = decoders.ByteLevel()
    whole.add_tokens([AddedToken(text, special=True, normalized=False) for text in tokenizer.SPECIAL_TOKENS])
    whole.save(str(tmp_path / "tokenizer.json"))
    return Vocabulary.read(tmp_path / "tokenizer.json")


@pytest.fixture
def packer(tmp_path: Path, vocabulary: Vocabulary) -> packs.Packer:
    shelf = tokenise.Shelf(vocabulary.tokenizer)
    shelf.add([{"package": "p", "path": f"p/f{number}.py", "text": SOURCE} for number in range(3)])
    shelf.save(tmp_path / "x.npz.xz")
    return packs.Packer(Shelf.read(tmp_path / "x.npz.xz", vocabulary.newline), vocabulary)


def test_the_system_text_is_the_packs() -> None:
    assert packs.SYSTEM_TEXT == SYSTEM_TEXT


def test_a_whole_file_gets_the_anchors_of_the_pack_format(packer: packs.Packer) -> None:
    example = packs.Example()
    generator = random.Random(0)
    generator.random = lambda: 0.0  # type: ignore[method-assign]
    generator.choice = lambda options: options[0]  # type: ignore[method-assign]
    generator.randint = lambda _, high: high  # type: ignore[method-assign, misc]
    packer._add_file(example, (0, 12, 100_000), generator, is_skeleton=False)
    text = packer.vocabulary.tokenizer.decode(example.ids)
    expected = anchored(SOURCE.encode(), 12, "p/f0.py", "anchors").data.decode()
    assert text == "§12 p/f0.py\n" + expected


def test_answers_are_copied_from_the_pack(packer: packs.Packer) -> None:
    recipe = packs.Recipe(700, skeleton=0, plain=0, absent=0, rows=8)
    asked = 0
    for seed in range(12):
        drawn = packer.draw(recipe, random.Random(seed))
        ids, answer = drawn["ids"], drawn["answer"].astype(bool)
        assert ids.shape == answer.shape == (701,)
        text = packer.vocabulary.tokenizer.decode(ids[drawn["lm"].astype(bool)].tolist())
        ends = np.flatnonzero(answer & (ids == packer.vocabulary.control["<|user|>"]))
        begin = 0
        for end in ends:
            begin = begin + int(np.flatnonzero(answer[begin:])[0])
            given = packer.vocabulary.tokenizer.decode(ids[begin:end].tolist())
            assert given in text
            begin = end + 1
            asked += 1
    assert asked > 10


def test_positions_ascend_and_stay_within_the_span(packer: packs.Packer) -> None:
    recipe = packs.Recipe(900, plain=0, span=10_000, skipped=1.0, rows=8)
    for seed in range(20):
        positions = packer.draw(recipe, random.Random(seed))["positions"]
        assert (np.diff(positions) >= 1).all()
        assert positions[0] == 0
        assert positions[-1] < 10_000


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("expat", True),
        ("bsd-3-clause and expat", True),
        ("apache-2.0 or gpl-2+", True),
        ("gpl-2+ and expat", False),
        ("lgpl-2.1+", False),
        ("", False),
    ],
)
def test_permissive_licences(licence: str, expected: bool) -> None:
    assert is_permissive(licence) is expected


def test_licences_come_from_the_stanzas_of_source_files() -> None:
    text = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        "Files: *\nCopyright: a\nLicense: Expat\n text\n\nFiles: debian/*\nLicense: GPL-2+\n\n"
        "Files: src/odd.py\nLicense: LGPL-2.1+\n\nFiles: x/y.js\nLicense: MPL-2\n"
    )
    assert licences_of(text) == ("expat", "lgpl-2.1+")
    assert licences_of("This package was debianised by hand.") is None
