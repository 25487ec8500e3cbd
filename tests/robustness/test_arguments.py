"""Arguments of the wrong kind: one error of ours, in words, never Python's own about an attribute of an int."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from robust_models import small

import mace_core as mace
from mace_core.errors import DeviceNotFoundError, UsageError


@pytest.fixture
def session() -> mace.Session:
    return mace.Session(small(), devices=["reference"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"devices": []}, "devices is empty"),
        ({"devices": [None]}, "devices are names"),
        ({"devices": 7}, "devices are names"),
        ({"devices": b"reference"}, "devices are names"),
        ({"options": [1]}, "options are a mapping"),
        ({"options": {"reference": 3}}, "options of 'reference' are a mapping"),
        ({"pins": [1]}, "pins are a mapping"),
        ({"pins": {"Neg": 3}}, "pins are a mapping"),
        ({"max_signatures": 0}, "max_signatures must be at least 1"),
        ({"max_signatures": "a"}, "max_signatures must be at least 1"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mace.Session(small(), **{"devices": ["reference"], **arguments})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Reference", "did you mean 'reference'"),
        ("referense", "did you mean 'reference'"),
        ("", "no provider called ''"),
        (":0", "no provider called ''"),
        ("reference:", "no device 'reference:'"),
        ("reference:9", r"no device 'reference:9'.*reference:0"),
        ("reference:0:1", "no device 'reference:0:1'"),
        ("ü" * 10_000, "no provider called 'üüü"),
    ],
)
def test_a_device_that_is_not_there_is_named_with_those_that_are(name: str, words: str) -> None:
    with pytest.raises(DeviceNotFoundError, match=words) as caught:
        mace.Session(small(), devices=[name])
    assert len(str(caught.value)) < 1000


def test_one_device_may_be_a_plain_name_and_named_twice_counts_once() -> None:
    for devices in ("reference", ["reference", "reference"], ("reference:0",)):
        with mace.Session(small(), devices=devices) as session:
            assert set(session.explain({"x": (1,), "z": (1,)}).nodes_per_device) == {"reference:0"}


@pytest.mark.parametrize("outputs", [["a"], ("a",), {"a"}, "a", ["a", "a"]])
def test_outputs_are_any_collection_of_names(session: mace.Session, outputs: Any) -> None:
    feeds = {"x": np.ones(2, np.float32), "z": np.ones(2, np.float32)}
    assert list(session.run(feeds, outputs=outputs)) == ["a"]
    assert list(session.run(feeds, outputs=iter(["b"]))) == ["b"]  # type: ignore[arg-type]
    assert session.run(feeds, outputs=[]) == {}


@pytest.mark.parametrize("outputs", [7, [1], ["q"], "q", [None]])
def test_outputs_that_are_none_are_refused(session: mace.Session, outputs: Any) -> None:
    feeds = {"x": np.ones(2, np.float32), "z": np.ones(2, np.float32)}
    with pytest.raises(UsageError, match="output"):
        session.run(feeds, outputs=outputs)


@pytest.mark.parametrize(
    "shapes", [[1], {"x": 3, "z": 3}, {"x": ("a",), "z": (3,)}, {"x": (-1,), "z": (-1,)}, {"x": (3,)}, {"q": (3,)}]
)
def test_shapes_that_are_none_are_refused(session: mace.Session, shapes: Any) -> None:
    for use in (session.prepare, session.explain):
        with pytest.raises(UsageError):
            use(shapes)


@pytest.mark.parametrize(
    "use",
    [
        lambda session: session.run({}),
        lambda session: session.run({}, outputs=["a"]),
        lambda session: session.profile({}),
        lambda session: session.prepare({}),
        lambda session: session.explain(),
        lambda session: session.__enter__(),
    ],
    ids=["run", "subset", "profile", "prepare", "explain", "with"],
)
def test_a_closed_session_refuses_everything_but_closing(
    session: mace.Session, use: Callable[[mace.Session], object]
) -> None:
    session.close()
    with pytest.raises(UsageError, match="is closed"):
        use(session)
    session.close()
