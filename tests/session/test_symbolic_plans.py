"""One plan for many shapes: the second signature of a model makes it, later ones use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from benchmarks.shapes.decoder import decoder, decoder_feeds
from mace_core import Session
from mace_core.errors import InputError

LAYERS = 2
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    decoder(path, LAYERS)
    return path


@pytest.fixture(scope="module")
def judge(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


@pytest.fixture
def session(model: Path) -> Iterator[Session]:
    with Session(model, devices=["cpu"], strict=True) as opened:
        yield opened


def feeds_of(past: int, batch: int = 1) -> dict[str, npt.NDArray[Any]]:
    return decoder_feeds(past, LAYERS, batch)


def check(session: Session, judge: onnxruntime.InferenceSession, past: int, batch: int = 1) -> None:
    feeds = feeds_of(past, batch)
    found = session.run(feeds)
    for name, expected in zip([o.name for o in judge.get_outputs()], judge.run(None, feeds), strict=True):
        np.testing.assert_allclose(found[name], expected, **CLOSE, err_msg=f"{name} at {past} x {batch}")


def compilations(session: Session) -> int:
    return len(session.explain().preparations)


def test_a_growing_cache_is_compiled_twice_and_never_again(
    session: Session, judge: onnxruntime.InferenceSession
) -> None:
    for past in range(60, 64):
        check(session, judge, past)
    before = compilations(session)
    assert before == 2, "one plan of numbers, one of sizes"
    for past in (64, 65, 79, 80, 81, 500, 61, 1000, 64):
        check(session, judge, past)
    assert compilations(session) == before


def test_a_shape_that_the_guards_do_not_admit_gets_a_plan_of_its_own(
    session: Session, judge: onnxruntime.InferenceSession
) -> None:
    for past in (100, 101, 2, 3, 1, 0, 100, 4095):
        check(session, judge, past)


def test_whatever_varies_becomes_a_size(session: Session, judge: onnxruntime.InferenceSession) -> None:
    for past, batch in ((40, 1), (41, 1), (41, 2), (57, 3), (90, 5), (90, 1), (33, 7)):
        check(session, judge, past, batch)


def test_shapes_that_do_not_fit_are_refused_as_ever(session: Session) -> None:
    for past in (20, 21, 22):
        session.run(feeds_of(past))
    odd = feeds_of(30) | {"past_k_0": feeds_of(31)["past_k_0"]}
    with pytest.raises(InputError, match="dimension 'past' is 31 in axis 2 of 'past_k_0' but 30 in axis 2"):
        session.run(odd)
    with pytest.raises(InputError, match="wrong rank"):
        session.run(feeds_of(30) | {"past_k_0": np.zeros((1, 4, 30), np.float32)})
    too_long = feeds_of(5000)
    with pytest.raises(Exception, match="4096"):  # the table of positions ends there
        session.run(too_long)


def test_threads_with_different_shapes(session: Session, judge: onnxruntime.InferenceSession) -> None:
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for past in range(first, first + 40, 3):
                check(session, judge, past)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (10, 50, 120, 121)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_results_of_earlier_shapes_stay_as_they_are(session: Session) -> None:
    kept = {past: session.run(feeds_of(past)) for past in (70, 71, 300, 72)}
    copies = {past: {name: value.copy() for name, value in found.items()} for past, found in kept.items()}
    for past in (73, 900, 74):
        session.run(feeds_of(past))
    for past, found in kept.items():
        for name, value in found.items():
            np.testing.assert_array_equal(value, copies[past][name])


def test_explanations_show_the_guards(session: Session) -> None:
    for past in (60, 61, 62):
        session.run(feeds_of(past))
    found = session.explain()
    assert "past < 4096" in found.guards
    assert "serves every shape with" in str(found)
    assert "past >= " in str(found)


def test_the_number_of_kept_signatures_is_bounded(model: Path) -> None:
    with Session(model, devices=["cpu"], max_signatures=3) as session:
        for past in range(20, 40):
            session.run(feeds_of(past))
        assert len(session._runner.plans()) == 3
        assert compilations(session) == 2


def test_sizes_do_not_drive_out_a_plan_that_took_long_to_make(model: Path, judge: onnxruntime.InferenceSession) -> None:
    """An empty cache has a plan in numbers, since a size of 0 is no symbol; many other lengths come in between."""
    with Session(model, devices=["cpu"], max_signatures=3) as session:
        for past in (0, *range(20, 30), 0):
            check(session, judge, past)
        assert compilations(session) == 2


def test_explanations_say_why_shapes_are_planned_one_by_one(
    session: Session, judge: onnxruntime.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while sizes are symbols costs speed, never the result, and is told."""

    def fail(*_: object) -> None:
        raise ValueError("no sizes today")

    check(session, judge, 60)
    monkeypatch.setattr("mace_core.scheduler.running.tracing.traced", fail)
    for past in (61, 62, 63, 64):
        check(session, judge, past)
    found = session.explain()
    assert found.guards == ()
    assert "shapes are planned one by one: ValueError: no sizes today" in str(found)
