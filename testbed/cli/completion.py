"""What Tab offers at the prompt of `testbed boot`: verbs, QMP commands, device ids, drivers, buses, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion

from testbed.model.errors import BedError
from testbed.verbs.verb import Argument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of one machine."""

    verbs: Mapping[str, Sequence[Argument]]  #: and what may follow each
    words: Mapping[Argument, Sequence[str]]


def candidates(line: str, known: Vocabulary) -> list[str]:
    """Return what can stand in place of the last word of `line`, the text before the cursor."""
    *before, last = line.split(" ")
    before = [word for word in before if word]
    key, separator, part = last.partition("=")
    if separator:
        return [f"{key}={name}" for name in known.words[Argument.DEVICE] if name.startswith(part)]
    return [word for word in _words(before, known) if word.startswith(last)]


def _words(before: Sequence[str], known: Vocabulary) -> Sequence[str]:
    """Return the words that fit after these."""
    if not before:
        return (*known.verbs, *known.words[Argument.COMMAND])
    verb, *arguments = before
    places = known.verbs.get(verb, ())
    return known.words[places[len(arguments)]] if len(arguments) < len(places) else ()


class SessionCompleter(Completer):
    """Completes from the vocabulary as it is at that moment: devices come and go."""

    def __init__(self, vocabulary: Callable[[], Awaitable[Vocabulary]]) -> None:
        self._vocabulary = vocabulary

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Offer nothing: QEMU is asked, and that is asynchronous."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """Offer what fits at the cursor; nothing if QEMU no longer answers."""
        try:
            known = await self._vocabulary()
        except BedError:
            return
        line = document.text_before_cursor
        for word in candidates(line, known):
            yield Completion(word, start_position=-len(line.rpartition(" ")[2]))
