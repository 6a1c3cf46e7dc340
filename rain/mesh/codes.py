"""A code that a person reads on one PC and types on another: `482-velvet-orbit`.

Three digits, the nameplate, say which open invitation is meant; they are no secret. Two words of
the BIP39 list are the secret: 22 bits. That is enough only because nobody can try them but one by
one against the PC that made them (see pake.py), and that PC gives three tries.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from mnemonic import Mnemonic

from rain.mesh.errors import MeshError
from rain.model import Value

TRIES_MAX = 3
WORDS = 2
PREFIX_CHARS = 4
"""So many letters of a word are enough: no two words of the list share them."""

_NAMEPLATE_FIRST = 100
_NAMEPLATES = 900
_TEXT_CHARS_MAX = 64


class Code(Value, frozen=True):
    """A nameplate and the secret words."""

    nameplate: str
    words: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the words, so that no log or traceback tells them."""
        return f"Code({self.nameplate})"

    @property
    def text(self) -> str:
        """What the person is shown."""
        return "-".join((self.nameplate, *self.words))

    @property
    def password(self) -> bytes:
        """What both ends prove to each other that they know."""
        return self.text.encode()


def draw_code(below: Callable[[int], int], taken: Iterable[str]) -> Code:
    """A fresh code. `below(n)` draws from 0..n-1 and must be unguessable (secrets.randbelow)."""
    used = set(taken)
    free = [str(n) for n in range(_NAMEPLATE_FIRST, _NAMEPLATE_FIRST + _NAMEPLATES)]
    free = [nameplate for nameplate in free if nameplate not in used]
    if not free:
        raise MeshError("too many invitations are open", "wait until some have run out")
    words = _words()
    chosen = tuple(words[below(len(words))] for _ in range(WORDS))
    return Code(free[below(len(free))], chosen)


def parse_code(text: str) -> Code:
    """The code in what a person typed: capitals, blanks and words cut to 4 letters do no harm.

    MeshError says what is wrong with it, never what was typed.
    """
    parts = re.findall(r"[0-9]+|[a-z]+", text[: _TEXT_CHARS_MAX + 1].lower())
    if len(text) > _TEXT_CHARS_MAX or len(parts) != 1 + WORDS:
        raise _not_a_code("it has not three digits and two words")
    nameplate, *typed = parts
    if len(nameplate) != 3 or not nameplate.isdecimal():
        raise _not_a_code("it does not begin with three digits")
    return Code(nameplate, tuple(_word(word, at) for at, word in enumerate(typed, start=1)))


def is_code(text: str) -> bool:
    """Whether a person means a code by that, be it mistyped; what is none may be a token."""
    return bool(re.match(r"\s*[0-9]", text))


def _word(typed: str, at: int) -> str:
    words = _words()
    if typed in words:
        return typed
    found = [word for word in words if word.startswith(typed)]
    if len(typed) < PREFIX_CHARS or len(found) != 1:
        raise _not_a_code(f"word {at} is none of the words that codes are made of")
    return found[0]


def _not_a_code(why: str) -> MeshError:
    return MeshError(f"that is not an invite code: {why}", "codes look like 482-velvet-orbit")


@lru_cache(maxsize=1)
def _words() -> tuple[str, ...]:
    return tuple(Mnemonic("english").wordlist)
