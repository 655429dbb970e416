"""Points that fill a cube more evenly than chance does: a scrambled Halton sequence.

Coordinate d of point i is i's digits in the d-th prime base, mirrored at the point (Halton, 1960). In large
bases the first points of the plain sequence lie on lines; a random permutation of each base's digits breaks
these up, and a random shift of the whole cube makes every point uniform.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

_PRIMES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)

MOST_DIMENSIONS: Final = len(_PRIMES)


def halton(dimensions: int, chance: Random) -> Iterator[tuple[float, ...]]:
    """Points between 0 and 1, without end. Writes `chance` before the first one only.

    Raises ValueError for more dimensions than there are bases for.
    """
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"1 to {MOST_DIMENSIONS} dimensions, not {dimensions}")
    bases = _PRIMES[:dimensions]
    digits = []
    for base in bases:
        others = list(range(1, base))
        chance.shuffle(others)
        digits.append([0, *others])  # 0 stays: every number begins with endless zeros
    shifts = [chance.random() for _ in bases]
    number = 0
    while True:
        number += 1
        yield tuple(
            (_mirrored(number, base, permuted) + shift) % 1.0
            for base, permuted, shift in zip(bases, digits, shifts, strict=True)
        )


def _mirrored(number: int, base: int, permuted: list[int]) -> float:
    found, weight = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        weight /= base
        found += permuted[digit] * weight
    return found
