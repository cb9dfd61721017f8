"""Build training examples: packs with anchors and questions, as docs/reference/pack-format.md lays them out.

Files are cut to runs of lines, so that many fit; tags and line numbers are random, so that they must be read and not
remembered; names that are asked for are replaced throughout the pack most of the time, so that they must be found.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from training.pocket.shelf import Shelf, Vocabulary

# As longlens.repo.pack.SYSTEM_TEXT; a test compares them.
SYSTEM_TEXT = (
    "You answer questions about a repository. Its files follow, each below a line with its tag and path, then what "
    "changed since. An anchor such as §12:42 ends line 42 of the file with tag 12. Cite a place by copying its anchor."
)
ABSENT = "Not in these files."
MOST_LINES_BETWEEN_ANCHORS = 16
WHERE = (
    "Where is {} defined?",
    "where is {} defined?",
    "Where is {} defined?",
    "Find {} .",
    "Which line defines {} ?",
    "Where can I find the definition of {} ?",
)
SIGNATURE = ("What is the signature of {} ?", "Show the line that defines {} .", "How is {} declared?", "Quote {} .")
PATH = ("Which file defines {} ?", "In which file is {} ?", "What file is {} in?")
LONGEST_SIGNATURE = 48
_BARE = {" def": "def", " class": "class", " async": "async"}


@dataclass(frozen=True)
class Recipe:
    """How the examples of a stage are drawn.

    Attributes:
        tokens: length of an example.
        skeleton: share of packs that hold only definition lines and a few lines after each.
        plain: share of examples that are running source text.
        renamed: share of asked names that are replaced.
        absent: share of questions about names that are not there.
        span: highest rotary position that skips may lead to; 0 for none.
        skipped: share of examples with skips.
        rows: query rows on which the indexer learns.
    """

    tokens: int
    skeleton: float = 0.5
    plain: float = 0.2
    renamed: float = 0.7
    absent: float = 0.05
    span: int = 0
    skipped: float = 0.5
    rows: int = 64
    is_test: bool = False

    @property
    def most_questions(self) -> int:
        return max(2, min(24, self.tokens // 85))


@dataclass
class Definition:
    """A definition that a pack holds: its line without indentation, anchor included, and its file's header."""

    name: str
    tag: int
    number: int
    line: list[int]
    header: list[int]


@dataclass
class Example:
    """One example under construction.

    Attributes:
        answer: places of tokens that are answers.
        cuts: places where positions may skip.
        text: runs that count as language, (begin, end).
    """

    ids: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    question_starts: list[int] = field(default_factory=list)
    text: list[tuple[int, int]] = field(default_factory=list)


class Packer:
    """Draws examples from a shelf."""

    def __init__(self, shelf: Shelf, vocabulary: Vocabulary) -> None:
        self.shelf, self.vocabulary = shelf, vocabulary
        control = vocabulary.control
        system = vocabulary.encode(SYSTEM_TEXT)
        self._start = [control["[gMASK]"], control["<sop>"], control["<|system|>"], *system, control["<|user|>"]]
        self._question = [vocabulary.sign, *vocabulary.encode("question"), vocabulary.newline]
        self._reply = [control["<|assistant|>"], control["<think>"], control["</think>"]]
        self._end = control["<|user|>"]
        self._bare = {vocabulary.encode(left)[0]: vocabulary.encode(right)[0] for left, right in _BARE.items()}
        self._askable = [name[0].isalpha() and name[-1].isalnum() and 3 <= len(name) <= 40 for name in shelf.names]
        spelled = vocabulary.tokenizer.encode_batch([f" {name}" for name in shelf.names], add_special_tokens=False)
        self._ids_of_name = [tuple(encoding.ids) for encoding in spelled]
        self._by_length: dict[int, list[int]] = defaultdict(list)
        for number, ids in enumerate(self._ids_of_name):
            if self._askable[number]:
                self._by_length[len(ids)].append(number)
        self._invented = self._invent(40_000)

    def _invent(self, count: int) -> dict[int, list[tuple[str, tuple[int, ...]]]]:
        """Names that exist nowhere, from words of names that do, by their number of tokens."""
        generator = random.Random(11)
        words = sorted({word.lower() for name in self.shelf.names for word in name.split("_") if word.isalpha()})
        texts = []
        for _ in range(count):
            parts = [generator.choice(words) for _ in range(generator.choice((1, 2, 2, 3)))]
            texts.append("".join(map(str.title, parts)) if generator.random() < 0.3 else "_".join(parts))
        spelled = self.vocabulary.tokenizer.encode_batch([f" {text}" for text in texts], add_special_tokens=False)
        by_length = defaultdict(list)
        for text, encoding in zip(texts, spelled, strict=True):
            by_length[len(encoding.ids)].append((text, tuple(encoding.ids)))
        return dict(by_length)

    def draw(self, recipe: Recipe, generator: random.Random) -> dict[str, np.ndarray]:
        """One example: `ids` [T + 1], `answer` [T + 1], `lm` [T + 1], `positions` [T], `rows` [R]."""
        if generator.random() < recipe.plain:
            example = self._plain(recipe.tokens + 1, generator)
        else:
            example = self._pack(recipe, generator)
        return self._finished(example, recipe, generator)

    def _plain(self, count: int, generator: random.Random) -> Example:
        example = Example()
        self._add_text(example, count, generator)
        return example

    def _add_text(self, example: Example, count: int, generator: random.Random) -> None:
        """Fill an example up with running source text."""
        begin = len(example.ids) + 1
        end = self.vocabulary.control["<|endoftext|>"]
        while len(example.ids) < count:
            file = generator.randrange(self.shelf.num_files)
            first, last = self.shelf.file_line[file], self.shelf.file_line[file + 1]
            if generator.random() < 0.5:
                first = generator.randrange(first, last)
            run = self.shelf.tokens[self.shelf.line_start[first] : self.shelf.line_start[last]]
            example.ids.append(end)
            example.ids += run[: max(0, count - len(example.ids))].tolist()
        example.text.append((begin, count))

    def _pack(self, recipe: Recipe, generator: random.Random) -> Example:
        questions = generator.randint(max(1, recipe.most_questions // 2), recipe.most_questions)
        room = recipe.tokens + 1 - questions * 30
        example = Example(ids=list(self._start))
        is_skeleton = generator.random() < recipe.skeleton
        files = list(generator.choice(self.shelf.package_files))
        generator.shuffle(files)
        most = 1 + room // 60
        tag = generator.choice((0, generator.randint(0, 980 - min(most, 900))))
        while len(example.ids) < room:
            file = files.pop() if files else generator.randrange(self.shelf.num_files)
            tag = min(tag + generator.choice((1, 1, 1, generator.randint(1, 12))), 999)
            self._add_file(example, (file, tag, room), generator, is_skeleton=is_skeleton)
        del example.ids[room:]
        while example.ids[-1] != self.vocabulary.newline:
            example.ids.pop()
        example.text.append((len(self._start), len(example.ids)))
        self._ask(example, recipe, questions, generator)
        if len(example.ids) < recipe.tokens:
            self._add_text(example, recipe.tokens + 1, generator)
        return example

    def _add_file(
        self, example: Example, place: tuple[int, int, int], generator: random.Random, *, is_skeleton: bool
    ) -> None:
        """Append a file's header and a run of its lines; lines past the room are cut off later."""
        file, tag, room = place
        shelf, vocabulary = self.shelf, self.vocabulary
        path = generator.choice(("", "", "src/", "lib/")) + shelf.paths[file]
        header = [vocabulary.sign, *vocabulary.numbers[tag], *vocabulary.encode(f" {path}")]
        example.cuts.append(len(example.ids))
        example.ids += [*header, vocabulary.newline]
        begin, end = int(shelf.file_line[file]), int(shelf.file_line[file + 1])
        share = max(12, int((room - len(example.ids)) // 8))
        first = 0 if generator.random() < 0.4 else generator.randrange(max(1, end - begin - 20))
        last = min(end - begin, first + generator.randint(12, share + 12))
        offset = generator.choice((1, 1, first + 1, first + 1, generator.randint(1, 3000))) - first
        low, high = shelf.definition_of_file[file], shelf.definition_of_file[file + 1]
        definitions = {
            int(line): int(name)
            for line, name in zip(shelf.definition_line[low:high], shelf.definition_name[low:high], strict=True)
            if first <= line < last
        }
        limit = room + 200
        previous = first - 1
        done = first
        for line in [*sorted(definitions), last]:
            stop = line if not is_skeleton else min(line, done + generator.randint(0, 3)) if done > first else first
            while (due := self._filled(begin, previous + MOST_LINES_BETWEEN_ANCHORS, stop)) is not None:
                self._copy(example, begin + done, begin + due)
                self._anchored(example, begin + due, tag, due + offset)
                previous, done = due, due + 1
            self._copy(example, begin + done, begin + stop)
            if line == last or len(example.ids) > limit:
                return
            start = len(example.ids)
            self._anchored(example, begin + line, tag, line + offset)
            text = self._without_indent(example.ids[start:-1])
            name = definitions[line]
            if start + len(text) < room and self._askable[name] and len(text) <= LONGEST_SIGNATURE:
                example.definitions.append(Definition(shelf.names[name], tag, line + offset, text, header))
            previous, done = line, line + 1

    def _filled(self, begin: int, line: int, stop: int) -> int | None:
        """The first line from `line` on that is not blank, if it comes before `stop`."""
        for candidate in range(line, stop):
            start, end = self.shelf.line_start[begin + candidate : begin + candidate + 2]
            if not self.vocabulary.is_space[self.shelf.tokens[start : end - 1]].all():
                return candidate
        return None

    def _copy(self, example: Example, first: int, last: int) -> None:
        if last > first:
            run = self.shelf.tokens[self.shelf.line_start[first] : self.shelf.line_start[last]]
            example.ids += run.tolist()

    def _anchored(self, example: Example, line: int, tag: int, number: int) -> None:
        vocabulary = self.vocabulary
        start, end = self.shelf.line_start[line : line + 2]
        numbers = vocabulary.numbers
        anchor = [vocabulary.spaced_sign, *numbers[tag], vocabulary.colon, *numbers[max(1, number) % 10_000]]
        example.ids += [*self.shelf.tokens[start : end - 1].tolist(), *anchor, vocabulary.newline]

    def _without_indent(self, line: list[int]) -> list[int]:
        first = next((place for place, token in enumerate(line) if not self.vocabulary.is_space[token]), 0)
        return [self._bare.get(line[first], line[first]), *line[first + 1 :]]

    def _ask(self, example: Example, recipe: Recipe, questions: int, generator: random.Random) -> None:
        by_name: dict[str, list[Definition]] = defaultdict(list)
        for definition in example.definitions:
            by_name[definition.name].append(definition)
        unique = [found[0] for found in by_name.values() if len(found) == 1]
        generator.shuffle(unique)
        asked = unique[:questions]
        taken = set(by_name)
        for definition in asked:
            if generator.random() < recipe.renamed:
                self._rename(example, definition, taken, generator)
        for turn, definition in enumerate(asked):
            self._turn(example, definition, recipe, generator, is_first=turn == 0)
            if len(example.ids) > recipe.tokens:
                return

    def _rename(self, example: Example, definition: Definition, taken: set[str], generator: random.Random) -> None:
        """Give a definition another name of as many tokens, wherever the pack spells it as the definition does."""
        old = tuple(self.vocabulary.encode(f" {definition.name}"))
        pool = self._invented.get(len(old), [])
        if pool and generator.random() < 0.5:
            name, new = generator.choice(pool)
        elif self._by_length[len(old)]:
            number = generator.choice(self._by_length[len(old)])
            name, new = self.shelf.names[number], self._ids_of_name[number]
        else:
            return
        if name in taken:
            return
        taken.add(name)
        definition.name = name
        example.ids = self._replaced(example.ids, old, new)
        for other in example.definitions:
            other.line = self._replaced(other.line, old, new)

    def _replaced(self, ids: list[int], old: tuple[int, ...], new: tuple[int, ...]) -> list[int]:
        joins, width = self.vocabulary.joins, len(old)
        place = -1
        while True:
            try:
                place = ids.index(old[0], place + 1)
            except ValueError:
                return ids
            after = place + width
            if tuple(ids[place:after]) == old and not (after < len(ids) and joins[ids[after]]):
                ids[place:after] = new

    def _turn(
        self, example: Example, definition: Definition, recipe: Recipe, generator: random.Random, *, is_first: bool
    ) -> None:
        """Append a question and its answer."""
        vocabulary = self.vocabulary
        kind = generator.choices(("where", "signature", "path"), (1, 0, 0) if recipe.is_test else (0.55, 0.3, 0.15))[0]
        name = definition.name
        is_absent = not recipe.is_test and generator.random() < recipe.absent
        if is_absent:
            pool = self._invented[generator.choice(list(self._invented))]
            name = generator.choice(pool)[0]
        form = {"where": WHERE, "signature": SIGNATURE, "path": PATH}[kind]
        text = form[0] if recipe.is_test else generator.choice(form)
        quoted = f"`{name}`" if recipe.is_test or generator.random() < 0.6 else name
        question = vocabulary.encode(text.format(quoted))
        with_header = is_first or generator.random() < 0.3
        question = [*self._question, *question, vocabulary.newline] if with_header else question
        anchor = [vocabulary.sign, *vocabulary.numbers[definition.tag], vocabulary.colon]
        anchor += vocabulary.numbers[max(1, definition.number) % 10_000]
        answer = {"where": anchor, "signature": definition.line, "path": definition.header}[kind]
        answer = vocabulary.encode(ABSENT) if is_absent else answer
        example.question_starts.append(len(example.ids))
        example.ids += [*question, *self._reply]
        example.answer += range(len(example.ids), len(example.ids) + len(answer) + 1)
        example.ids += [*answer, self._end]

    def _finished(self, example: Example, recipe: Recipe, generator: random.Random) -> dict[str, np.ndarray]:
        count = recipe.tokens + 1
        used = min(len(example.ids), count)
        ids = np.full(count, self.vocabulary.control["<|endoftext|>"], np.int64)
        ids[:used] = example.ids[:used]
        answer = np.zeros(count, np.uint8)
        answer[[place for place in example.answer if place < count]] = 1
        lm = np.zeros(count, np.uint8)
        for begin, end in example.text:
            lm[begin:end] = 1
        targets = np.flatnonzero(answer[1:])
        chosen = generator.sample(targets.tolist(), min(len(targets), recipe.rows // 2))
        chosen += [generator.randrange(recipe.tokens) for _ in range(recipe.rows - len(chosen))]
        return {
            "ids": ids,
            "answer": answer,
            "lm": lm,
            "positions": self._positions(example, recipe, generator),
            "rows": np.array(chosen, np.int64),
        }

    def _positions(self, example: Example, recipe: Recipe, generator: random.Random) -> np.ndarray:
        """Ascending positions; some examples skip ahead at file headers and before questions (PoSE)."""
        positions = np.arange(recipe.tokens, dtype=np.int64)
        room = recipe.span - recipe.tokens
        if room <= 0 or generator.random() > recipe.skipped:
            return positions
        total = int(2 ** generator.uniform(6, np.log2(room)))
        places = [cut for cut in example.cuts + example.question_starts[:1] if 0 < cut < recipe.tokens]
        places = places or [generator.randrange(1, recipe.tokens)]
        cuts = generator.sample(places, min(len(places), generator.randint(1, 4)))
        shares = [generator.random() for _ in cuts]
        for cut, share in zip(cuts, shares, strict=True):
            positions[cut:] += int(total * share / sum(shares))
        return positions
