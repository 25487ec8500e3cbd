"""Argument words of kernels have names, and their number is checked."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.native.errors import KernelError
from mace_core.native.kernel_words import WordLayout


class Arg(enum.IntEnum):
    SOURCE = 0
    TARGET = 1


def test_words_come_in_the_order_of_the_layout() -> None:
    layout = WordLayout.parse("source target rank sizes[rank] pads[2*rank] three[3]")
    given_ = {"three": (7, 8, 9), "pads": [3, 4, 5, 6], "rank": 2, "sizes": (1, 2), "target": 11, "source": 10}
    assert layout.arrange(given_, "k") == [10, 11, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert WordLayout.of(Arg).arrange({Arg.TARGET: 2, Arg.SOURCE: 1}, "k") == [1, 2]
    followed = WordLayout.of(Arg, channels=2, tensors=0)
    assert followed.arrange({"tensors": [], "channels": [3, 4], Arg.TARGET: 2, Arg.SOURCE: 1}, "k") == [1, 2, 3, 4]
    counted = WordLayout.of(Arg, rest="target")
    assert counted.arrange({Arg.TARGET: 2, Arg.SOURCE: 1, "rest": [8, 9]}, "k") == [1, 2, 8, 9]
    with pytest.raises(KernelError, match="Arg has no member 'rank'"):
        WordLayout.of(Arg, sizes="rank")


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 5))
def test_a_list_has_the_length_that_is_stated(words: list[int], stated: int) -> None:
    layout = WordLayout.parse("rank sizes[rank]")
    if len(words) == stated:
        assert layout.arrange({"rank": stated, "sizes": words}, "k") == [stated, *words]
    else:
        with pytest.raises(KernelError, match=f"'sizes' of the kernel 'k' has {len(words)} words; {stated} are stated"):
            layout.arrange({"rank": stated, "sizes": words}, "k")


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"source": 1}, "missing: target"),
        ({"source": 1, "target": 2, "other": 3}, "not its own: other"),
    ],
)
def test_a_kernel_takes_its_own_words_all_of_them(given_: dict[str, int], reason: str) -> None:
    with pytest.raises(KernelError, match=reason):
        WordLayout.of(Arg).arrange(given_, "k")


@pytest.mark.parametrize("text", ["a a", "sizes[rank]", "a[2] b[a]", "A", "a[]", "a-b"])
def test_layouts_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(KernelError):
        WordLayout.parse(text)


def test_no_word_is_named_twice() -> None:
    with pytest.raises(KernelError, match="'source' names both a member of Arg and a list"):
        WordLayout.of(Arg, source=2)
    with pytest.raises(KernelError, match="by its name and by its member"):
        WordLayout.of(Arg).arrange({Arg.SOURCE: 1, "source": 1, "target": 2}, "k")


def test_a_list_is_given_as_a_list() -> None:
    with pytest.raises(KernelError, match="is a list of words"):
        WordLayout.parse("rank sizes[rank]").arrange({"rank": 1, "sizes": 5}, "k")
