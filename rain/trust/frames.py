"""News cut into messages that do not block a stream for long."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rain.effects import Post
from rain.model import NodeId
from rain.trust.messages import NEWS_BUNDLES_MAX, NEWS_CLAIMS_MAX, RingKey, RollNews
from rain.trust.roll import News, Roll
from rain.trust.turn import Gathered

FRAME_BUNDLES_MAX = NEWS_BUNDLES_MAX // 4
"""At most 1 MiB."""
FRAME_CLAIMS_MAX = NEWS_CLAIMS_MAX // 2

T = TypeVar("T")


def posts(roll: Roll, to: Iterable[NodeId], gathered: Gathered, serial: int = 0) -> list[Post]:
    """The news to each of them, with the certificates that its claims need."""
    needed = roll.closure(gathered.claims)
    bundles = tuple(dict.fromkeys((*needed, *gathered.bundles)))
    parts = frames(News(bundles, tuple(gathered.claims)), gathered.keys, serial)
    return [Post(node_id, part) for node_id in to for part in parts]


def frames(news: News, keys: Sequence[RingKey] = (), serial: int = 0) -> list[RollNews]:
    """Certificates first, then claims; keys and serial with the last frame."""
    parts = [RollNews(bundles=part) for part in _cut(news.bundles, FRAME_BUNDLES_MAX)]
    parts += [RollNews(claims=part) for part in _cut(news.claims, FRAME_CLAIMS_MAX)]
    if len(news.bundles) <= FRAME_BUNDLES_MAX and len(news.claims) <= FRAME_CLAIMS_MAX:
        parts = [RollNews(news.bundles, news.claims)]
    last = parts[-1]
    return [*parts[:-1], RollNews(last.bundles, last.claims, tuple(keys), serial)]


def _cut(whole: Sequence[T], length: int) -> Iterator[tuple[T, ...]]:
    for at in range(0, len(whole), length):
        yield tuple(whole[at : at + length])
