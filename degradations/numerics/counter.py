"""SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): 64 bits for every place of a field, from a counter.

Word n of a field, from 1, is mix(key + n GOLDEN). It is plain arithmetic of whole numbers, so NumPy and torch make the
same fields. Needs nothing.
"""

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd: the step of the counter
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27)
LAST_SHIFT = 31
WORD = 2**64 - 1


def key(seed: int, stream: int) -> int:
    """Return where the counter of a field starts, an integer below 2^64."""
    return mix((mix(seed & WORD) + stream * GOLDEN) & WORD)


def mix(word: int) -> int:
    """Return the 64 bits that SplitMix64 makes of `word`."""
    word = ((word ^ (word >> SHIFTS[0])) * MULTIPLIERS[0]) & WORD
    word = ((word ^ (word >> SHIFTS[1])) * MULTIPLIERS[1]) & WORD
    return word ^ (word >> LAST_SHIFT)
