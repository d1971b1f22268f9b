"""Parts of a list of videos, for machines that share one folder of features.

take_shard(sources, *parse_shard("3/16"))              # the third of sixteen parts
"""

import os
import re
from collections.abc import Iterable
from hashlib import sha256

from c3dvideo.errors import UsageError
from c3dvideo.video.sources import Source


def parse_shard(text: str) -> tuple[int, int]:
    """The number of a part, from 1, and the number of parts. Raises UsageError for anything else.

    >>> parse_shard("3/16")
    (3, 16)
    """
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"`shard=` is {text!r}; expected the number of a part and the number of parts, such as 3/16")
    return number, count


def take_shard(sources: Iterable[Source], number: int, count: int) -> list[Source]:
    """The videos of one part, in their order.

    A hash of its name determines the part of a video. So each part can be listed on its own machine, and a video that
    is added later moves no other.
    """
    return [source for source in sources if _hash(source.name) % count == number - 1]


def _hash(name: str) -> int:
    return int.from_bytes(sha256(os.fsencode(name)).digest()[:8])
