"""The root of a pool as twelve words (BIP39) that a person writes down at founding."""

from mnemonic import Mnemonic

from rain.mesh.errors import MeshError

ENTROPY_BYTES = 16

_WORDS = Mnemonic("english")


def phrase_of(entropy: bytes) -> str:
    """Twelve words that say the same as these 16 bytes, and a little checksum."""
    assert len(entropy) == ENTROPY_BYTES, f"{len(entropy)} bytes of entropy"
    return _WORDS.to_mnemonic(entropy)


def entropy_of(phrase: str) -> bytes:
    """The 16 bytes behind a phrase, typed with any case, spacing, and four letters a word."""
    count = ENTROPY_BYTES * 3 // 4
    words = phrase.lower().replace(",", " ").split()
    if len(words) != count:
        raise MeshError(
            f"a recovery phrase has {count} words, this one has {len(words)}",
            "type all the words that were shown when the pool was founded, in their order",
        )
    found = [_WORDS.expand_word(word) if len(word) >= 4 else word for word in words]
    for at, word in enumerate(found, 1):
        if word not in _WORDS.wordlist:
            raise MeshError(
                f"word {at} of the recovery phrase is none of the list: {word[:20]!r}",
                "look at its spelling: every word is a plain English one",
            )
    if not _WORDS.check(" ".join(found)):
        raise MeshError(
            "these words do not belong together: one is wrong, or two have changed places",
            "compare them with what was written down when the pool was founded",
        )
    return bytes(_WORDS.to_entropy(found))
