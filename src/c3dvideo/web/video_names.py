"""How videos are named in addresses and on the page: an id of 16 hexadecimal digits, and text that can be shown.

A file name may hold quotes, `#`, `%`, tags, and bytes that are not UTF-8. No address and no element id is made from it.
"""

from hashlib import sha256


def video_id(name: str) -> str:
    """The id of the video called `name`, the same in every run.

    >>> video_id("walking/a.mp4")
    '463de4ab7606c040'
    """
    return sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def shown(name: str) -> str:
    r"""The name as text for people; a byte that is not UTF-8 is shown as `\xe9`.

    >>> shown("caf\udce9.mp4")
    'caf\\xe9.mp4'
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
