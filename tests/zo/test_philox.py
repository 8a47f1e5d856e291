"""The numbers themselves: Philox by its published vectors and by Python's integers, and what is made of its words."""

import math
import random

import pytest
import torch
from helpers.noise import CPU, DISTRIBUTIONS, GROUP, KEYS, SIZES, STREAMS, run_of

from zobench.zo.noise import philox

SPAN, LANES = philox.SPAN, philox.LANES
#: the signs of elements 0 to 63 of key 0 as bits, 1 for −1, the first one lowest
FIRST_SIGNS = 0x78622C62A51EB3B8


def philox_words(key, counter, stream):
    """Philox4x32-7 of Salmon et al. in Python's integers: the four words of one counter."""
    a, b, c, d = counter % 2**32, counter >> 32, stream, 0
    low, high = key % 2**32, key >> 32 & 2**32 - 1
    for _ in range(7):
        m, n = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (n >> 32) ^ b ^ low, n % 2**32, (m >> 32) ^ d ^ high, m % 2**32
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return a, b, c, d


def sign_of(key, element):
    """One element of a draw of signs, by itself."""
    span, (word, lane) = element // SPAN, divmod(element % SPAN, LANES)
    counter = span // 32 * LANES + lane
    return -1.0 if philox_words(key, counter, 1)[word] >> span % 32 & 1 else 1.0


def test_philox_gives_the_published_words():
    """The vectors that Salmon et al. publish with their code, for 7 rounds: key and counter 0."""
    found = [int(word[0, 0]) for word in philox.words(0, torch.tensor([0]))]
    assert found == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]
    assert philox_words(0, 0, 0) == tuple(found)


def test_words_are_philox_of_their_counters():
    generator = random.Random(20260101)
    for stream in STREAMS.values():
        for _ in range(20):
            key, group, lane = (generator.randrange(n) for n in (2**64, 2**50, LANES))
            found = philox.words(key, torch.tensor([1, group]), stream)
            assert tuple(int(word[1, lane]) for word in found) == philox_words(key, group * LANES + lane, stream)


def test_normals_are_box_and_muller_of_the_words():
    spans = torch.tensor([3, 4, 2**41 + 7])
    x, y, v, w = (word.double() for word in philox.words(77, spans))
    assert int(x[2, 5]) == philox_words(77, (2**41 + 7) * LANES + 5, 0)[0]
    found = philox.normals(77, spans).double().view(3, 4, LANES)
    for radial, angular, pair in ((x, y, found[:, :2]), (v, w, found[:, 2:])):
        r = (-2 * torch.log((radial + 0.5) * 2.0**-32)).sqrt()
        angle = angular * (2 * math.pi * 2.0**-32) - math.pi / 4
        expected = torch.stack([r * angle.cos(), r * angle.sin()], dim=1)
        torch.testing.assert_close(pair, expected, rtol=0, atol=1e-4)  # u near 1 has 24 bits
        assert float((pair - expected).abs().mean()) < 2e-7


def test_signs_are_the_bits_of_the_words():
    found = philox.signs(0, torch.arange(1))[0, :64].tolist()
    assert [1.0 - 2 * (FIRST_SIGNS >> i & 1) for i in range(64)] == found
    assert [sign_of(0, element) for element in range(64)] == found
    generator = random.Random(20260101)
    for key, top in [(0, GROUP), (2**64 - 1, 3 * GROUP), (generator.randrange(2**63), 2**45)]:
        for element in [generator.randrange(top) for _ in range(40)] + [GROUP - 1, GROUP, 2 * GROUP]:
            span, at = divmod(element, SPAN)
            assert float(philox.signs(key, torch.tensor([span]))[0, at]) == sign_of(key, element)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_elements_and_rows_are_parts_of_the_spans(distribution):
    stream = STREAMS[distribution]
    for first, count in SIZES:
        found = philox.elements(KEYS[0], first, count, CPU, stream)
        assert torch.equal(found, run_of(KEYS[0], first, count, stream))
    which = torch.tensor([40, 3, 3, 2**33])
    for first, width in ((7, 1), (2040, 100), (GROUP - 50, 3000)):
        expected = [run_of(KEYS[1], first + row * width, width, stream) for row in which.tolist()]
        assert torch.equal(philox.rows(KEYS[1], first, which, width, stream), torch.stack(expected))
    assert philox.elements(5, 3, 0, CPU, stream).numel() == 0
    assert philox.rows(5, 3, which[:0], 10, stream).shape == (0, 10)
