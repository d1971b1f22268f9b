"""Numbers with their nouns, for messages.

count(1, "video"), count(1200, "clip")           # "1 video" and "1,200 clips"
"""


def count(n: int, noun: str) -> str:
    """The number and the noun, in the plural unless the number is 1.

    >>> count(1, "labelled video"), count(0, "curve"), count(2000, "class")
    ('1 labelled video', '0 curves', '2,000 classes')
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"
