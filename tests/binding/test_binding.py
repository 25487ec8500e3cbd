"""State that stays with a stream of runs gives the results that passing it through the caller gives."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bound_models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.shapes import control_flow
from benchmarks.shapes.decoder import decoder
from mace_core import Binding, CancelFlag, Session, custom_op
from mace_core.custom_ops import unregister
from mace_core.errors import CancelledError, InputError, MaceError, UsageError
from mace_core.scheduler.profile import Profile

Array = npt.NDArray[Any]
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
LAYERS = 2


class Case:
    """A model with a cache: what to bind, what a step is fed, and what a cache begins with."""

    def __init__(
        self,
        path: Path,
        pairs: Mapping[str, str],
        feeds: Callable[[int, int, np.random.Generator], dict[str, Array]],
        start: Mapping[str, Array],
        grows: bool = True,
    ) -> None:
        self.path, self.pairs, self.feeds, self.start, self.grows = path, pairs, feeds, start, grows
        self.session = Session(path, devices=["cpu"], strict=True)
        self.judge = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def plain(folder: Path) -> Case:
    path = folder / "decoder.onnx"
    decoder(path, LAYERS)
    pairs = {f"past_{kind}_{layer}": f"present_{kind}_{layer}" for layer in range(LAYERS) for kind in "kv"}
    start = {name: np.zeros((1, 4, 0, 32), np.float32) for name in pairs}
    # the benchmark's decoder takes one token at a time
    return Case(path, pairs, lambda past, n, random: {"ids": random.integers(0, 256, (1, 1))}, start)


def merged(folder: Path) -> Case:
    path = folder / "merged.onnx"
    onnx.save(control_flow.merged_decoder(), path)
    kinds = [f"{layer}{part}.{kind}" for layer in range(2) for part in ("", ".cross") for kind in ("key", "value")]
    pairs = {f"past.{name}": f"present.{name}" for name in kinds}
    encoded = np.random.default_rng(1).standard_normal((1, 9, 128)).astype(np.float32)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        return {"ids": random.integers(0, 256, (1, n)), "encoded": encoded, "use_cache_branch": np.array([past > 0])}

    return Case(path, pairs, feeds, {name: np.zeros((1, 4, 0, 32), np.float32) for name in pairs})


def grouped(folder: Path) -> Case:
    path = folder / "grouped.onnx"
    onnx.save(bound_models.grouped_decoder(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        x = random.standard_normal((1, n, bound_models.WIDTH)).astype(np.float32)
        return {"x": x, "seqlens_k": np.array([past + n - 1], np.int32), "total": np.array([past + n], np.int32)}

    pairs = {"past_k": "present_k", "past_v": "present_v"}
    return Case(path, pairs, feeds, {name: np.zeros((1, 2, 0, 8), np.float32) for name in pairs})


def masked(folder: Path, batch: int = 2) -> Case:
    path = folder / "masked.onnx"
    onnx.save(bound_models.masked_decoder(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        x = random.standard_normal((batch, n, bound_models.WIDTH)).astype(np.float32)
        return {"x": x, "mask": np.ones((batch, past + n), np.float32)}

    pairs = {"past_k": "present_k", "past_v": "present_v"}
    return Case(path, pairs, feeds, {name: np.zeros((batch, 2, 0, 8), np.float32) for name in pairs})


def recurrent(folder: Path) -> Case:
    path = folder / "recurrent.onnx"
    onnx.save(bound_models.recurrent(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        return {"x": random.standard_normal((n, 2, bound_models.DEPTH)).astype(np.float32)}

    start = {"h": np.zeros((1, 2, bound_models.DEPTH), np.float32)}
    return Case(path, {"h": "h_next"}, feeds, start, grows=False)


def scattering(op_type: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        path = folder / f"{op_type}.onnx"
        onnx.save(bound_models.scattering_decoder(op_type), path)

        def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
            x = random.standard_normal((1, n, bound_models.DEPTH)).astype(np.float32)
            rows = (past + np.arange(n)) % bound_models.LONGEST
            if op_type == "TensorScatter":
                at = np.array([min(past, bound_models.LONGEST - n)])
            elif op_type == "ScatterElements":
                at = np.broadcast_to(rows[None, :, None], x.shape).copy()
            else:
                at = np.stack([np.zeros(n, np.int64), rows], -1)[None]
            return {"x": x, "at": at}

        start = {"cache": np.zeros((1, bound_models.LONGEST, bound_models.DEPTH), np.float32)}
        return Case(path, {"cache": "next"}, feeds, start, grows=False)

    return make


CASES: dict[str, Callable[[Path], Case]] = {
    "decoder": plain,
    "merged": merged,
    "grouped": grouped,
    "masked": masked,
    "recurrent": recurrent,
    **{op_type: scattering(op_type) for op_type in ("TensorScatter", "ScatterElements", "ScatterND")},
}
JUDGED = frozenset(CASES) - {"TensorScatter"}
"""onnxruntime has no kernel for the others."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    folder = tmp_path_factory.mktemp("bound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACE_CACHE_DIR", str(folder / "cache"))
        found: dict[str, Case] = {}

        class Lazily(dict[str, Case]):
            def __missing__(self, name: str) -> Case:
                found[name] = self[name] = CASES[name](folder)
                return found[name]

        yield Lazily()
        for case in found.values():
            case.session.close()


class Passing:
    """A stream whose state goes through the caller: on a session, or on onnxruntime."""

    def __init__(self, case: Case, run: Callable[[dict[str, Array]], Mapping[str, Array]]) -> None:
        self._case, self._run = case, run
        self.state = dict(case.start)

    @staticmethod
    def on_session(case: Case) -> Passing:
        return Passing(case, case.session.run)

    @staticmethod
    def on_judge(case: Case) -> Passing:
        names = [output.name for output in case.judge.get_outputs()]
        return Passing(case, lambda feeds: dict(zip(names, case.judge.run(None, feeds), strict=True)))

    def run(self, feeds: dict[str, Array]) -> Mapping[str, Array]:
        found = self._run({**feeds, **self.state})
        self.state = {source: found[output] for source, output in self._case.pairs.items()}
        return found


def follow(case: Case, bound: Binding, counts: Sequence[int], *, judged: bool, seed: int = 0) -> int:
    """Run a stream both ways, comparing every result and the state at the end; returns the length."""
    random = np.random.default_rng(seed)
    passing = Passing.on_session(case)
    judge = Passing.on_judge(case) if judged else None
    past = 0
    for count in counts:
        feeds = case.feeds(past, count, random)
        found, expected = bound.run(feeds), passing.run(feeds)
        assert not set(found) & set(case.pairs.values())
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{name} after {past} + {count}")
        if judge is not None:
            theirs = judge.run(feeds)
            for name, array in found.items():
                np.testing.assert_allclose(array, theirs[name], **CLOSE, err_msg=name)
        past += 1 if case.feeds is None else next(iter(feeds.values())).shape[0 if "h" in case.pairs else 1]
    for source, output in case.pairs.items():
        np.testing.assert_array_equal(bound.read(output), passing.state[source], err_msg=output)
        np.testing.assert_array_equal(bound.read(source), passing.state[source], err_msg=source)
    return past


@pytest.mark.parametrize("name", CASES)
def test_a_bound_stream_computes_what_passing_the_state_does(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    with case.session.bind(case.pairs, case.start, capacity=4) as bound:
        follow(case, bound, [3, 1, 1, 1, 1, 2, 1, 1, 1, 4, 1, 1], judged=name in JUDGED)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(CASES)),
    counts=st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 7]), min_size=1, max_size=12),
    capacity=st.sampled_from([None, 1, 2, 5, 64]),
    seed=st.integers(0, 9),
)
def test_random_sequences(
    cases: dict[str, Case], name: str, counts: list[int], capacity: int | None, seed: int
) -> None:
    case = cases[name]
    with case.session.bind(case.pairs, case.start, capacity=capacity) as bound:
        follow(case, bound, counts, judged=False, seed=seed)


@pytest.mark.parametrize("name", ["decoder", "merged", "grouped", "masked"])
def test_caches_grow_in_place(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    random = np.random.default_rng(0)
    growing = {output for output in case.pairs.values() if "cross" not in output}
    with case.session.bind(case.pairs, case.start, capacity=64) as bound:
        for past in range(8):
            bound.run(case.feeds(past, 1, random))
            if past or name in ("decoder", "masked"):  # the others take no cache in the first run
                assert bound.in_place == growing
        assert bound.lengths == dict.fromkeys(growing, 8)


def test_nothing_as_large_as_the_cache_is_allocated(cases: dict[str, Case]) -> None:
    case, entries = cases["decoder"], 1500
    start = {name: np.ones((1, 4, entries, 32), np.float32) for name in case.pairs}
    cache_bytes = sum(array.nbytes for array in start.values())
    with case.session.bind(case.pairs, start, capacity=2000) as bound:
        bound.run({"ids": np.array([[1]])})
        bound.run({"ids": np.array([[2]])})
        room = bound._states[0].room
        peaks = []
        tracemalloc.start()
        try:
            for token in range(20):
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                bound.run({"ids": np.array([[token]])})
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        assert room is not None and bound._states[0].room is room
    assert np.median(peaks) < cache_bytes / 40  # of all runs but those few that enlarge the arena


def test_what_is_before_the_new_entries_is_not_written_to(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start, capacity=32) as bound:
        for past in range(6):
            bound.run(case.feeds(past, 1, random))
        states = {state.output: state for state in bound._states}
        before = {name: state.room.part((1, 4, 32, 32)).copy() for name, state in states.items() if state.room}
        bound.run(case.feeds(6, 1, random))
        for name, old in before.items():
            now = states[name].room.part((1, 4, 32, 32))  # type: ignore[union-attr]
            changed = np.flatnonzero((now.view(np.int32) != old.view(np.int32)).any(axis=(0, 1, 3)))
            assert changed.tolist() == [6]


def test_room_is_doubled(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    random = np.random.default_rng(0)
    rooms = set()
    with case.session.bind(case.pairs, case.start, capacity=2) as bound:
        for past in range(40):
            bound.run(case.feeds(past, 1, random))
            rooms.add(bound._states[0].room.capacity)  # type: ignore[union-attr]
    assert rooms == {2, 4, 8, 16, 32, 64}


def test_a_limit_is_kept_and_leaves_the_state_as_it_is(cases: dict[str, Case]) -> None:
    for name in ("decoder", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        with case.session.bind(case.pairs, case.start, limit=3) as bound:
            for past in range(3):
                bound.run(case.feeds(past, 1, random))
            before = {output: bound.read(output) for output in case.pairs.values()}
            for _ in range(2):
                with pytest.raises(InputError, match="4 entries, more than the limit of 3"):
                    bound.run(case.feeds(3, 1, random))
            for output, array in before.items():
                np.testing.assert_array_equal(bound.read(output), array)
            bound.rewind(1)
            bound.run(case.feeds(2, 1, random))


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_cancelled_leaves_the_state_as_it_is(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    random = np.random.default_rng(0)
    cancelled = CancelFlag()
    cancelled.set()
    with case.session.bind(case.pairs, case.start) as bound:
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
            before = {output: bound.read(output) for output in case.pairs.values()}
            with pytest.raises(CancelledError):
                bound.run(case.feeds(past + 1, 1, random), cancel=cancelled)
            for output, array in before.items():
                np.testing.assert_array_equal(bound.read(output), array)


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND", "TensorScatter"])
def test_a_run_that_fails_leaves_the_state_as_it_is(cases: dict[str, Case], op_type: str) -> None:
    case = cases[op_type]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
        before = bound.read("next")
        feeds = case.feeds(4, 2, random)
        feeds["at"] = feeds["at"].copy()
        feeds["at"].reshape(-1)[-1] = 99  # the first row is in range, the last is not
        with pytest.raises(Exception, match="99"):
            bound.run(feeds)
        np.testing.assert_array_equal(bound.read("next"), before)


def test_streams_of_two_threads_do_not_touch_each_other(cases: dict[str, Case]) -> None:
    case = cases["masked"]
    faults: list[BaseException] = []

    def stream(seed: int) -> None:
        try:
            with case.session.bind(case.pairs, case.start, capacity=2) as bound:
                follow(case, bound, [seed + 1, *[1] * 20], judged=False, seed=seed)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=stream, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_one_stream_is_not_for_two_threads(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs) as bound:
        found: list[BaseException] = []

        def run() -> None:
            try:
                bound.run({"ids": np.array([[1]])})
            except UsageError as error:
                found.append(error)

        with bound._held():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        assert len(found) == 1 and "one binding for each stream" in str(found[0])
        bound.run({"ids": np.array([[1]])})


def test_rewinding_is_as_if_it_had_not_been_computed(cases: dict[str, Case]) -> None:
    for name in ("decoder", "merged", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        steps = [case.feeds(past, 1, random) for past in range(6)]
        with case.session.bind(case.pairs, case.start) as bound:
            for feeds in steps:
                last = bound.run(feeds)
            bound.rewind(2)
            assert set(bound.lengths.values()) == {4}
            for feeds in steps[4:]:
                again = bound.run(feeds)
            for output, array in last.items():
                np.testing.assert_array_equal(again[output], array)
            with pytest.raises(UsageError, match="has 6 entries and cannot be rewound by 7"):
                bound.rewind(7)


def test_what_does_not_grow_cannot_be_rewound(cases: dict[str, Case]) -> None:
    case = cases["recurrent"]
    with case.session.bind(case.pairs, case.start) as bound:
        bound.run(case.feeds(0, 2, np.random.default_rng(0)))
        with pytest.raises(UsageError, match="does not grow"):
            bound.rewind(1)


def test_a_binding_begins_again(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs, capacity=8) as bound:
        first = [bound.run({"ids": np.array([[token]])})["logits"] for token in range(5)]
        bound.reset()
        again = [bound.run({"ids": np.array([[token]])})["logits"] for token in range(5)]
        np.testing.assert_array_equal(first, again)
        longer = {name: np.full((1, 4, 20, 32), 0.5, np.float32) for name in case.pairs}
        bound.reset(longer)
        found = bound.run({"ids": np.array([[7]])})["logits"]
        expected = case.session.run({"ids": np.array([[7]]), **longer})["logits"]
        np.testing.assert_array_equal(found, expected)
        assert set(bound.lengths.values()) == {21}


def test_what_it_begins_with_is_copied(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    start = {name: np.ones((1, 4, 3, 32), np.float32) for name in case.pairs}
    expected = case.session.run({"ids": np.array([[7]]), **start})["logits"]
    with case.session.bind(case.pairs, start) as bound:
        for array in start.values():
            array[...] = np.nan
        np.testing.assert_array_equal(bound.run({"ids": np.array([[7]])})["logits"], expected)


def test_without_a_start_the_first_state_is_empty_or_zeros(cases: dict[str, Case]) -> None:
    for name in CASES:
        case = cases[name]
        feeds = case.feeds(0, 1, np.random.default_rng(0))
        with case.session.bind(case.pairs) as bound:
            if name == "merged":  # of an encoder's states, nothing says how many
                continue
            found, expected = bound.run(feeds), case.session.run({**feeds, **case.start})
            for output, array in found.items():
                np.testing.assert_array_equal(array, expected[output])


def test_bound_outputs_are_given_where_they_are_asked_for(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs, capacity=16) as bound:
        for token in range(4):
            found = bound.run({"ids": np.array([[token]])}, outputs=["present_k_0"])
            assert list(found) == ["present_k_0"] and found["present_k_0"].shape == (1, 4, token + 1, 32)
            found["present_k_0"][...] = np.nan  # the caller's own
        assert np.isfinite(bound.read("present_k_0")).all()
        bound.read("past_k_0")[...] = np.nan
        assert np.isfinite(bound.run({"ids": np.array([[9]])})["logits"]).all()


def test_a_profile_shows_that_a_concat_is_in_place(cases: dict[str, Case]) -> None:
    case, profile = cases["decoder"], Profile()
    with case.session.bind(case.pairs, capacity=16) as bound:
        for token in range(3):
            bound.run({"ids": np.array([[token]])})
        bound.run({"ids": np.array([[3]])}, profile=profile)
    assert profile.spans and profile.end_ns > profile.start_ns


def test_numbers_may_be_checked(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with (
        Session(case.path, devices=["cpu"], check_numerics=True) as session,
        session.bind(case.pairs) as bound,
        case.session.bind(case.pairs) as plain_bound,
    ):
        for token in range(3):
            feeds = {"ids": np.array([[token]])}
            np.testing.assert_allclose(bound.run(feeds)["logits"], plain_bound.run(feeds)["logits"], **CLOSE)


def test_a_closed_binding_says_so(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    bound = case.session.bind(case.pairs)
    bound.run({"ids": np.array([[1]])})
    bound.close()
    bound.close()
    assert all(state.value is None and state.room is None for state in bound._states)
    with pytest.raises(UsageError, match="is closed"):
        bound.run({"ids": np.array([[1]])})


FAULTS: list[tuple[Mapping[str, str], dict[str, Any], str]] = [
    ({}, {}, "there is nothing to bind"),
    ({"past_q_0": "present_k_0"}, {}, "has no input 'past_q_0' to bind"),
    ({"past_k_0": "present"}, {}, "has no output 'present' to bind"),
    ({"ids": "logits"}, {}, "their element types are float32 and int64"),
    ({"past_k_0": "logits"}, {}, "their shapes are"),
    (
        {"past_k_0": "present_k_0"},
        {"capacity": -1},
        "capacity is a number of entries up to 16,777,216 and cannot be -1",
    ),
    ({"past_k_0": "present_k_0"}, {"capacity": 10**12}, "cannot be 1,000,000,000,000"),
    ({"past_k_0": "present_k_0"}, {"limit": 1.5}, "limit is a number of entries, not 1.5"),
    ({"past_k_0": "present_k_0"}, {"start": {"ids": np.zeros((1, 1))}}, "'ids', which is not a bound input"),
    ({"past_k_0": "present_k_0"}, {"start": {"past_k_0": np.zeros((1, 4, 2, 9), np.float32)}}, "wrong size in axis 3"),
    ({"past_k_0": "present_k_0"}, {"start": {"past_k_0": np.zeros((1, 4, 2, 32))}}, "has element type float64"),
]


@pytest.mark.parametrize(("pairs", "options", "message"), FAULTS)
def test_what_does_not_fit_is_refused_in_a_sentence(
    cases: dict[str, Case], pairs: Mapping[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        cases["decoder"].session.bind(pairs, **options)
    assert message in str(error.value)


def test_feeds_that_do_not_fit_are_refused_and_change_nothing(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    with case.session.bind(case.pairs) as bound:
        with pytest.raises(UsageError, match="no state 'present_k_0' before the first run"):
            bound.read("present_k_0")
        with pytest.raises(UsageError, match="'logits' is not bound"):
            bound.read("logits")
        with pytest.raises(InputError, match=r"input 'ids' .* is missing"):
            bound.run({})
        with pytest.raises(InputError, match="is bound to output 'present_k_0' and cannot be fed"):
            bound.run({"ids": np.array([[1]]), "past_k_0": np.zeros((1, 4, 0, 32), np.float32)})
        with pytest.raises(UsageError, match="no output 'x'"):
            bound.run({"ids": np.array([[1]])}, outputs=["x"])
        bound.run({"ids": np.array([[1]])})
        with pytest.raises(InputError, match="dimension 'b' is"):
            bound.run({"ids": np.array([[1], [2]])})
        assert set(bound.lengths.values()) == {1}
        bound.reset()
        bound.run({"ids": np.array([[1], [2]])})
        assert bound.read("present_k_0").shape == (2, 4, 1, 32)


def test_a_device_that_takes_no_offer_is_handed_the_state(cases: dict[str, Case]) -> None:
    for name in ("decoder", "masked"):
        case = cases[name]
        random = np.random.default_rng(0)
        with (
            Session(case.path, devices=["reference"], cache=False) as session,
            session.bind(case.pairs, case.start) as bound,
            case.session.bind(case.pairs, case.start) as ours,
        ):
            for past in range(4):
                feeds = case.feeds(past, 1, random)
                for output, array in ours.run(feeds).items():
                    np.testing.assert_allclose(bound.run(feeds)[output], array, **CLOSE)
                assert not bound.in_place
            for output in case.pairs.values():
                np.testing.assert_allclose(bound.read(output), ours.read(output), **CLOSE)


def test_no_step_of_a_token_moves_the_cache(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in elements: what steps that only move elements do for a token after many."""
    from mace_cpu.backend import CpuBackend

    from mace_core.symbolic import hint

    lowered: list[Any] = []
    lower = CpuBackend._lower

    def noted(self: CpuBackend, view: Any) -> Any:
        program = lower(self, view)
        if view.in_place:
            lowered.append(program)
        return program

    monkeypatch.setattr(CpuBackend, "_lower", noted)
    for name in ("decoder", "grouped"):
        case, random, entries = cases[name], np.random.default_rng(0), 900
        start = {
            source: np.ones((*array.shape[:2], entries, array.shape[3]), np.float32)
            for source, array in case.start.items()
        }
        lowered.clear()
        with (
            Session(case.path, devices=["cpu"], cache=False) as session,
            session.bind(case.pairs, start, capacity=1000) as bound,
        ):
            for past in range(entries, entries + 4):
                bound.run(case.feeds(past, 1, random))
            assert bound.in_place == set(case.pairs.values())
        assert lowered
        movers = ("strided_rows", "copy_bytes", "tiled_transpose", "pack_panels")
        for program in lowered:
            moved = sum(hint(step.work) for step in program.steps.emitted if step.kernel.symbol.startswith(movers))
            assert moved < entries


SCATTERS = ("ScatterElements", "ScatterND", "TensorScatter")


@pytest.mark.parametrize("op_type", SCATTERS)
def test_rows_are_scattered_into_the_cache_itself(cases: dict[str, Case], op_type: str) -> None:
    case = cases[op_type]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        rooms = set()
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
            assert bound.in_place == {"next"}
            rooms.add(bound._states[0].room)
        assert len(rooms) == 1


@pytest.mark.parametrize("poison", ["", "ff"])
@pytest.mark.parametrize("op_type", SCATTERS)
def test_what_was_written_over_is_put_back_when_a_later_node_fails(
    cases: dict[str, Case], op_type: str, poison: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scatter has run, in a subgraph that succeeded, when a node of another device raises.  With poison, memory
    that the plan may use for something else by then holds something else."""
    if poison:
        monkeypatch.setenv("MACE_POISON", poison)
    calls: list[int] = []

    @custom_op("test.binding", "Fails")
    def fails(x: Array) -> Array:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("it falls over")
        return x + 1

    try:
        model = bound_models.scattering_decoder(op_type)
        model.opset_import.append(onnx.helper.make_opsetid("test.binding", 1))
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Fails", ["before"], ["y"], domain="test.binding"))
        path = tmp_path / "failing.onnx"
        onnx.save(model, path)
        random = np.random.default_rng(0)
        case = cases[op_type]
        with Session(path, devices=["cpu"], cache=False) as session, session.bind(case.pairs, case.start) as bound:
            for past in range(3):
                bound.run(case.feeds(past, 2, random))
            assert bound.in_place == {"next"}
            before = bound.read("next")
            with pytest.raises(MaceError, match="falls over"):
                bound.run(case.feeds(1, 2, random))
            np.testing.assert_array_equal(bound.read("next"), before)
            calls.clear()
            feeds = case.feeds(3, 2, random)
            found = bound.run(feeds)["y"]
            np.testing.assert_array_equal(found, session.run({**feeds, "cache": before})["y"])
    finally:
        unregister("test.binding", "Fails")


def test_a_provider_that_cannot_put_back_what_it_wrote_is_named(
    cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_cpu.plan.subgraph import CpuExecution

    def undo(self: CpuExecution, bindings: Any) -> None:
        raise ValueError("a defect")

    case, random = cases["ScatterND"], np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        bound.run(case.feeds(0, 1, random))
        monkeypatch.setattr(CpuExecution, "undo", undo)
        feeds = case.feeds(1, 1, random)
        feeds["at"] = feeds["at"] + 99
        with pytest.raises(MaceError, match=r"Execution\.undo.*a defect") as error:
            bound.run(feeds)
        assert "cpu" in str(error.value)


@pytest.mark.parametrize("name", ["masked", "ScatterND"])
def test_plans_that_an_earlier_process_stored_do_the_same(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    restored, results = [], []
    for _ in range(2):
        random = np.random.default_rng(0)
        with Session(case.path, devices=["cpu"], strict=True) as session, session.bind(case.pairs, case.start) as bound:
            for past in range(0, 12, 2):
                results.append(next(iter(bound.run(case.feeds(past, 2, random)).values())))
            assert bound.in_place == set(case.pairs.values())
            if not case.grows:
                before, feeds = bound.read("next"), case.feeds(3, 2, random)
                feeds["at"][0, 1, 1] = 99
                with pytest.raises(MaceError, match="99"):
                    bound.run(feeds)
                np.testing.assert_array_equal(bound.read("next"), before)
            restored.append([one.restored for one in session._model.preparations])
    assert all(restored[1])
    np.testing.assert_array_equal(results[:6], results[6:])


def test_a_default_is_not_fed_to_a_binding(tmp_path: Path) -> None:
    model = bound_models.recurrent()
    value = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [1, 24, 8])
    model.graph.input.append(value)
    path = tmp_path / "defaults.onnx"
    onnx.save(model, path)
    x = np.zeros((2, 2, 8), np.float32)
    with Session(path, devices=["cpu"]) as session, session.bind({"h": "h_next"}) as bound:
        assert bound.run({"x": x})["y"].shape == (2, 1, 2, 8)
        with pytest.raises(InputError, match="'w' has a default, which holds for all runs of a binding"):
            bound.run({"x": x, "w": np.zeros((1, 24, 8), np.float32)})


def test_a_binding_ends_with_its_session(cases: dict[str, Case]) -> None:
    case = cases["decoder"]
    session = Session(case.path, devices=["cpu"], cache=False)
    bound = session.bind(case.pairs)
    bound.run({"ids": np.array([[1]])})
    session.close()
    with pytest.raises(UsageError, match="is closed"):
        bound.run({"ids": np.array([[1]])})
    assert bound.read("present_k_0").shape == (1, 4, 1, 32)
    bound.close()


TYPES = ("FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "INT64", "BOOL", "COMPLEX128", "INT4", "STRING")


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", TYPES)
def test_any_element_type_along_any_axis(kind: str, axis: int, tmp_path: Path) -> None:
    """What holds less than a byte, and strings, are handed over."""
    dtype = getattr(onnx.TensorProto, kind)
    value = onnx.helper.make_tensor_value_info

    def shape(name: str) -> list[int | str]:
        found: list[int | str] = [2, 3, 4]
        found[axis] = name
        return found

    nodes = [
        onnx.helper.make_node("Concat", ["past", "x"], ["present"], axis=axis),
        onnx.helper.make_node("Transpose", ["present"], ["y"], perm=[2, 0, 1]),
    ]
    inputs, outputs = (
        [value("past", dtype, shape("p")), value("x", dtype, shape("n"))],
        [value("present", dtype, shape("t"))],
    )
    outputs.append(value("y", dtype, None))
    graph = onnx.helper.make_graph(nodes, "types", inputs, outputs)
    path = tmp_path / "types.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    random = np.random.default_rng(0)
    with Session(path, devices=["cpu"], cache=False) as session, session.bind({"past": "present"}, capacity=3) as bound:
        element = session.inputs[0].dtype
        whole: Array | None = None
        for count in (2, 1, 1, 3):
            size = [2, 3, 4]
            size[axis] = count
            x = (
                random.integers(0, 2, size).astype(object).astype(str)
                if kind == "STRING"
                else random.integers(0, 2, size)
            )
            x = x.astype(object if kind == "STRING" else element)
            whole = x if whole is None else np.concatenate([whole, x], axis)
            found = bound.run({"x": x})["y"]
            np.testing.assert_array_equal(found, whole.transpose(2, 0, 1))
            np.testing.assert_array_equal(bound.read("present"), whole)
        assert bool(bound.in_place) is (kind not in ("INT4", "STRING"))


READERS: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
    "Relu": ("Relu", (), {}),
    "Softmax": ("Softmax", (), {"axis": 2}),
    "ReduceMean": ("ReduceMean", ("axis_2",), {}),
    "ArgMax": ("ArgMax", (), {"axis": 2}),
    "Slice": ("Slice", ("minus_2", "largest", "axis_2"), {}),
    "Slice backwards": ("Slice", ("minus_1", "smallest", "axis_2", "minus_1"), {}),
    "Gather": ("Gather", ("minus_1",), {"axis": 2}),
    "Reshape": ("Reshape", ("flat",), {}),
    "Transpose": ("Transpose", (), {"perm": [2, 0, 3, 1]}),
    "MatMul": ("MatMul", ("square",), {}),
    "MatMul transposed": ("MatMul", ("square",), {}),
    "Add": ("Add", ("row",), {}),
    "Concat": ("Concat", ("self",), {"axis": 1}),
    "Concat along": ("Concat", ("self",), {"axis": 2}),
    "Split": ("Split", (), {"axis": 1, "num_outputs": 2}),
    "CumSum": ("CumSum", ("axis_2s",), {}),
    "Tile": ("Tile", ("repeats",), {}),
    "Cast": ("Cast", (), {"to": onnx.TensorProto.INT32}),
    "LayerNormalization": ("LayerNormalization", ("scale",), {}),
    "TopK": ("TopK", ("one",), {"axis": 2}),
    "Identity": ("Identity", (), {}),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    after=st.lists(st.sampled_from(sorted(READERS)), min_size=1, max_size=3),
    before=st.lists(st.sampled_from(sorted(READERS)), max_size=1),
    counts=st.lists(st.sampled_from([1, 1, 2, 3]), min_size=4, max_size=7),
    capacity=st.sampled_from([1, 4, 64]),
)
def test_whoever_reads_a_cache_with_gaps(
    after: list[str], before: list[str], counts: list[int], capacity: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Readers of the output, and of the input, take gaps or get a dense copy."""
    contents = {
        "axis_2": [2],
        "minus_1": [-1],
        "minus_2": [-2],
        "largest": [2**60],
        "smallest": [-(2**60)],
        "one": [1],
        "flat": [0, -1],
        "repeats": [1, 2, 1, 1],
        "axis_2s": 2,
    }
    weights: dict[str, Array] = {name: np.array(content) for name, content in contents.items()}
    random = np.random.default_rng(0)
    for name, shape in (("square", (8, 8)), ("row", (8,)), ("scale", (8,))):
        weights[name] = random.standard_normal(shape).astype(np.float32)
    nodes = [onnx.helper.make_node("Concat", ["past", "x"], ["present"], axis=2)]
    outputs = []
    for source, readers in (("past", before), ("present", after)):
        for place, reader in enumerate(readers):
            op_type, others, attributes = READERS[reader]
            read, name = source, f"{source}_{place}"
            if reader == "MatMul transposed":
                nodes.append(onnx.helper.make_node("Transpose", [source], [f"{name}_t"], perm=[0, 2, 1, 3]))
                read = f"{name}_t"
            ins = [read if other == "self" else other for other in others]
            made = [name, f"{name}_b"] if op_type in ("Split", "TopK") else [name]
            nodes.append(onnx.helper.make_node(op_type, [read, *ins], made, **attributes))
            kind = {"ArgMax": onnx.TensorProto.INT64, "Cast": onnx.TensorProto.INT32}.get(
                op_type, onnx.TensorProto.FLOAT
            )
            outputs.append(onnx.helper.make_tensor_value_info(name, kind, None))
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2, length, 8])
        for name, length in (("past", "p"), ("x", "n"))
    ]
    present = onnx.helper.make_tensor_value_info("present", onnx.TensorProto.FLOAT, [2, 2, "t", 8])
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "readers", inputs, [*outputs, present], constants)
    path = tmp_path_factory.mktemp("readers") / "readers.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    past = random.standard_normal((2, 2, 3, 8)).astype(np.float32)
    with (
        Session(path, devices=["cpu"], cache=False) as session,
        session.bind({"past": "present"}, {"past": past}, capacity=capacity) as bound,
    ):
        for count in counts:
            x = random.standard_normal((2, 2, count, 8)).astype(np.float32)
            expected = session.run({"past": past, "x": x})
            past = expected.pop("present")
            found = bound.run({"x": x})
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array, err_msg=f"{name}: {before} {after}")
            np.testing.assert_array_equal(bound.read("present"), past)
