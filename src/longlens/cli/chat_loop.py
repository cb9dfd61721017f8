"""The chat itself: entry after entry, answer after answer, until the user leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace

from longlens.chat.dialogue import Dialogue
from longlens.chat.facade import Asking
from longlens.chat.request import ChatEvent, Finished
from longlens.cli.answer_writer import AnswerWriter
from longlens.cli.chat_attachments import Attachments
from longlens.cli.chat_commands import Command, help_lines, read_command, read_count
from longlens.cli.chat_input import Entry, Lines, read_entry
from longlens.cli.chat_places import ChatPlaces
from longlens.cli.chat_stats import ChatTotals, stats_lines
from longlens.cli.interruption import EXIT_CODE_BASE, interruptible
from longlens.cli.messages import print_fault, print_note
from longlens.cli.progress import PrefillProgress
from longlens.cli.start_log import end_line
from longlens.engine.sampling import SamplingParams
from longlens.errors import CancelledError, ContextLengthError, LonglensError

EXIT_INTERRUPTED = EXIT_CODE_BASE + signal.SIGINT
EXIT_TERMINATED = EXIT_CODE_BASE + signal.SIGTERM

Answering = Callable[[SamplingParams, Asking], Generator[ChatEvent, None, None]]


class ChatLoop:
    """Talks to the user over one dialogue.

    Attributes:
        num_faults: entries that ended in a fault.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        params: SamplingParams,
        lines: Lines,
        *,
        is_quiet: bool,
        on_finished: Callable[[Finished], None] = lambda _finished: None,
    ) -> None:
        """Begin.

        Args:
            dialogue: what is said.
            params: how every answer's tokens are chosen.
            lines: where the user's lines come from.
            is_quiet: answers are not followed by what they took.
            on_finished: told how every answer ended.
        """
        self.num_faults = 0
        self._dialogue = dialogue
        self._params = params
        self._lines = lines
        self._is_quiet = is_quiet
        self._on_finished = on_finished
        self._totals = ChatTotals()
        self._places = ChatPlaces(dialogue)
        self._num_regenerated = 0
        self._attachments = Attachments(
            dialogue.count_tokens, lambda: max(0, dialogue.max_context - dialogue.num_tokens)
        )
        # Ctrl-C once stops an answer or clears the line; once more, with nothing entered in between, leaves.
        self._was_interrupted = False
        self._is_terminated = False

    def run(self, first_message: str | None = None) -> int:
        """Take entries until there are no more, and return the exit code.

        Returns:
            0 after /exit or the end of input, 130 after a second Ctrl-C in a row, 143 after SIGTERM.
        """
        if first_message is not None:
            self._take(Entry(first_message, is_message=True))
        while not self._is_terminated:
            try:
                entry = read_entry(self._lines)
            except KeyboardInterrupt:
                if self._was_interrupted:
                    return EXIT_INTERRUPTED
                self._was_interrupted = True
                print_note("Ctrl-C once more leaves, and so does Ctrl-D")
                continue
            if entry is None:
                return 0
            self._was_interrupted = False
            if self._take(entry):
                return 0
        return EXIT_TERMINATED

    def _take(self, entry: Entry) -> bool:
        """Do what an entry asks for; True when that is to leave."""
        try:
            command = None if entry.is_message else read_command(entry.text)
            if command is not None:
                return self._obey(command)
            if entry.text.strip():
                self._ask(entry.text)
        except ContextLengthError as error:
            self._fault(error.fault, f"{error.mend}. /rewind drops the last turn, /clear all of them")
        except LonglensError as error:
            self._fault(error.fault, error.mend)
        return False

    def _obey(self, command: Command) -> bool:
        name, argument = command
        if name == "/exit":
            return True
        if name == "/regen":
            self._regenerate()
        elif name == "/rewind":
            self._rewind(read_count(argument))
        elif name == "/clear":
            dropped = self._dialogue.rewind(len(self._dialogue.exchanges) or 1)
            self._attachments.clear()
            print_note(f"dropped {dropped} turns and all added files")
        else:
            self._tell(name, argument)
        return False

    def _tell(self, name: str, argument: str) -> None:
        adding = {
            "/read": self._attachments.add_file,
            "/add": self._attachments.add,
            "/glob": self._attachments.add_matches,
        }
        saying: dict[str, Callable[[], Iterable[str]]] = {
            "/help": help_lines,
            "/places": self._places.lines,
            "/stats": lambda: stats_lines(self._dialogue, self._totals),
        }
        try:
            for line in [adding[name](argument)] if name in adding else saying[name]():
                print_note(line)
        except KeyboardInterrupt:
            self._was_interrupted = True
            print_note("stopped: nothing was added" if name in adding else "stopped")

    def _rewind(self, num_turns: int) -> None:
        dropped = self._dialogue.rewind(num_turns)
        print_note(f"dropped {dropped} turns, {len(self._dialogue.exchanges)} are left")

    def _regenerate(self) -> None:
        if not self._dialogue.is_unanswered:
            self._num_regenerated += 1
            if self._params.temperature == 0 and self._dialogue.exchanges:
                print_note("answers are greedy, so this one will be the same; longlens chat --temp 0.8 gives others")
        self._answer(self._dialogue.answer_again)

    def _ask(self, message: str) -> None:
        text, files = self._attachments.before(message), tuple(self._attachments.files())

        def asked(params: SamplingParams, asking: Asking) -> Generator[ChatEvent, None, None]:
            events = self._dialogue.ask(text, params, asking, files)
            self._attachments.clear()  # only now: a message that is refused keeps its files for the next
            return events

        self._answer(asked)

    def _answer(self, answering: Answering) -> None:
        writer = AnswerWriter(dims_reasoning=True)
        finished: Finished | None = None
        with interruptible() as interruption:
            try:
                with PrefillProgress() as progress:
                    asking = Asking(
                        cancel=interruption.flag, on_progress=progress.update, on_selection=self._places.watch()
                    )
                    with closing(answering(self._varied_params(), asking)) as events:
                        for event in events:
                            progress.stop()
                            if isinstance(event, Finished):
                                finished = event
                            else:
                                writer.take(event)
            except CancelledError:
                pass  # said below, together with what was stopped before its first word
            finally:
                if writer.has_output:
                    writer.end()
        self._was_interrupted = interruption.signal_number == signal.SIGINT
        self._is_terminated = interruption.signal_number == signal.SIGTERM
        self._report(finished)

    def _varied_params(self) -> SamplingParams:
        """With a seed, every other answer to a question has a seed of its own, the same in every chat."""
        if self._params.seed is None:
            return self._params
        return replace(self._params, seed=(self._params.seed + self._num_regenerated) % 2**64)

    def _report(self, finished: Finished | None) -> None:
        dialogue = self._dialogue
        if finished is not None:
            self._totals.take(finished)
            self._on_finished(finished)
            if not self._is_quiet:
                print_note(end_line(finished))
        if dialogue.is_unanswered:
            print_note(
                f"stopped: {dialogue.cached_tokens} of {dialogue.num_tokens} tokens are read and kept. /regen goes on, "
                "/rewind drops the message, and what you write next is added to it"
            )
        elif finished is not None and finished.finish_reason == "cancelled":
            print_note("stopped: what was said stays in the conversation")
        if finished is not None and dialogue.num_tokens >= dialogue.max_context:
            self._fault(
                f"the context of {dialogue.max_context} tokens is full; the conversation is kept",
                "/rewind drops the last turn, /clear all of them; a longer --context has to be given at the start",
            )

    def _fault(self, fault: str, mend: str) -> None:
        self.num_faults += 1
        print_fault(fault, mend)
