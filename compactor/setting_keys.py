"""One setting: what its value must be, how it is read, and how it is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import EnumType
from pathlib import Path
from typing import Annotated, Any

import msgspec

from compactor.errors import SettingsError
from compactor.sort_keys import SortKey, parse_sort_keys
from compactor.units import format_size, parse_duration, parse_size


class Size(int):
    """Marks a key that takes a size; the value is in bytes."""


class Duration(float):
    """Marks a key that takes a duration; the value is in seconds."""


class SortTerms(tuple[SortKey, ...]):
    """Marks a key that takes terms of an order: one text, or a list of texts."""


Count = Annotated[int, msgspec.Meta(ge=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Ratio = Annotated[float, msgspec.Meta(ge=0)]
# What `msgspec` says of other values is for programmers.
_WANTED = {
    Count: "not a whole number from 1 up",
    Whole: "not a whole number from 0 up",
    Ratio: "not a number from 0 up",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A setting: the field it fills, what its value must be, and the word that means None.

    Attributes:
        least: the smallest value of a size, in bytes.
    """

    field: str
    kind: Any
    none_word: str | None = None
    least: int = 0


Sections = Mapping[str, Mapping[str, Key]]


@dataclass(frozen=True, slots=True)
class Name:
    """A setting as its source spells it.

    Attributes:
        section: name of the section.
        option: name within the section.
        shown: how the source spells it, for messages.
        origin: the source, for messages; empty when `shown` says it.
        is_text: whether the source knows text only, as flags and the environment do.
        pattern: the targets it is for, in the section `policy`.
    """

    section: str
    option: str
    shown: str
    origin: str
    is_text: bool
    pattern: str = "*"

    def key(self, sections: Sections) -> Key:
        """Look the setting up.

        Raises:
            SettingsError: there is none of this name.
        """
        keys = sections.get(self.section)
        if keys is None:
            raise self.refused("unknown section", hint=similar(self.section, sections))
        found = keys.get(self.option)
        if found is None:
            raise self.refused("unknown setting", hint=similar(self.option, keys))
        return found

    def refused(self, what: str, *, hint: str, why: str = "") -> SettingsError:
        """Return the error that names this setting, its source and the reason."""
        place = f" in {self.origin}" if self.origin else ""
        reason = f": {why}" if why else ""
        return SettingsError(f"{what} `{self.shown}`{place}{reason}", hint=hint)


def converted_value(name: Name, key: Key, value: object) -> Any:
    """Check a value; text stands for any type where the source knows text only."""
    if key.none_word is not None and value == key.none_word:
        return None
    try:
        converted = msgspec.convert(value, key.kind, strict=not name.is_text, dec_hook=_from_text)
    except ValueError as error:
        is_choice = isinstance(key.kind, EnumType)
        hint = _choices(key.kind, value) if is_choice else ""
        wanted = "not one of the choices" if is_choice else _WANTED.get(key.kind, "")
        why = f"`{value}` is {wanted}" if wanted else str(error)
        raise name.refused("bad value for", hint=hint, why=why) from error
    if key.least and converted < key.least:
        why = f"no task fits into `{value}`"
        hint = f"give at least {format_size(key.least)}"
        raise name.refused("bad value for", hint=hint, why=why)
    return converted


def _choices(kind: EnumType, value: object) -> str:
    return similar(str(value), {str(choice): choice for choice in list[Any](kind)})


def _from_text(kind: type, value: object) -> Any:
    """Read the types that `msgspec` does not know: text with a unit or a number, and paths."""
    if kind is Path:
        return Path(str(value)).expanduser()
    if kind is SortTerms:
        texts = value if isinstance(value, list | tuple) else [value]
        return SortTerms(key for text in texts for key in parse_sort_keys(str(text)))
    if kind is Size:
        return Size(parse_size(str(value)))
    return Duration(parse_duration(str(value)))


def similar(word: str, known: Mapping[str, object]) -> str:
    """Return the hint for a word that is not known."""
    close = get_close_matches(word, known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(f'`{name}`' for name in known)}"
