"""What holds for every test of this repository: where caches lie, how hypothesis draws, and that Ctrl-C is heard."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import struct
import threading
from collections.abc import Generator
from pathlib import Path

import hypothesis
import platformdirs
import pytest
from mace_testing import quick_tier

from mace_core.errors import DeviceNotFoundError
from mace_core.host.signals import action_of, put_back, put_back_stack, signals_kept, stack_for_signals

OWN = Path(__file__).parent / ".cache"
"""What tests and the processes they start keep: compiled kernels above all, which the next run uses again."""

USER = OWN / "user"
"""Stands in for the folder of the user's own caches; nothing of MACE may appear in it."""

hypothesis.settings.register_profile(
    "reproducible",
    deadline=None,  # a first example compiles kernels, and the machine may be busy with something else
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile(
    "random", hypothesis.settings.get_profile("reproducible"), derandomize=False, print_blob=True
)
hypothesis.settings.load_profile("reproducible")

SHARE_OF_EXAMPLES = 0.35
"""How many of its examples a law gets where they are the same each time; the full tier draws others, and all."""

FEWEST_EXAMPLES = 4

SIGNALS: list[bytes] = []
"""What the system does on SIGINT while tests run, and the stack on which the main thread handles it."""

ADDRESS_BYTES = struct.calcsize("P")
"""An action begins with the address of the handler."""


def pytest_configure(config: pytest.Config) -> None:
    """Set up this process; processes started from it inherit it."""
    _rewrite_less(config)
    os.environ.setdefault("PIP_CACHE_DIR", platformdirs.user_cache_dir("pip", appauthor=False))
    os.environ["MACE_CACHE_DIR"] = str(OWN / "mace")
    os.environ["XDG_CACHE_HOME"] = str(USER)
    os.environ["MACE_TESTING_CACHE"] = str(OWN / "testing")
    # Workers have every processor already: a helper would take as long to import numba as to build what it is given.
    os.environ.setdefault("MACE_BUILD_PROCESSES", "1")
    # Tests start hundreds of processes; a third of a short one would go into compiling the same modules once more.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A shell starts what it runs in its background with the signal ignored, and that is inherited by every process a
    # test starts, which then could not be interrupted.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _rewrite_less(config: pytest.Config) -> None:
    """Have pytest rewrite the assertions of the kit alone, not those of all of mace_core, which is its distribution.

    Threads of the core import modules when they need them, and Python 3.11's parser, which the rewriting calls in the
    place of reading a .pyc file, fails now and then when two threads are in it ("AST constructor recursion depth
    mismatch").  There is no public way to say so.
    """
    marked: set[str] = config.pluginmanager.rewrite_hook._must_rewrite  # type: ignore[attr-defined]
    if "mace_core" in marked:
        marked.remove("mace_core")
        marked.add("mace_core.testing")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the quick tier what combines again, and give laws their share of examples."""
    if is_quick_tier(config):
        _leave_out_combinations(config, items)
    _share_examples(config, items)


def is_quick_tier(config: pytest.Config) -> bool:
    """Whether nothing was chosen by hand: by a mark, a word, a file or a test."""
    return quick_tier.is_run(config.option.markexpr, config.option.keyword, config.args)


def _leave_out_combinations(config: pytest.Config, items: list[pytest.Item]) -> None:
    families: dict[tuple[str, str], list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and not item.get_closest_marker("full"):
            assert item.parent is not None
            families.setdefault((item.parent.nodeid, item.originalname), []).append(item)
    left_out: set[pytest.Item] = set()
    for members in families.values():
        kept = quick_tier.kept([(item.callspec.id, item.callspec.params) for item in members])
        left_out |= {item for item, is_kept in zip(members, kept, strict=True) if not is_kept}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _share_examples(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give laws their share of examples, once each, however many cases they have."""
    if config.getoption("--hypothesis-profile"):
        return
    laws = {getattr(item.obj, "__func__", item.obj) for item in items if isinstance(item, pytest.Function)}
    for law in filter(hypothesis.is_hypothesis_test, laws):
        whole = law._hypothesis_internal_use_settings  # there is no public way to what a decorator has set
        count = max(min(whole.max_examples, FEWEST_EXAMPLES), int(whole.max_examples * SHARE_OF_EXAMPLES))
        law._hypothesis_internal_use_settings = hypothesis.settings(whole, max_examples=count)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Have no garbage collection look at what collecting has made: millions of objects that stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test that names an OpenCL device where there is none: PoCL's compiler does not know all processors."""
    logger = logging.getLogger("mace")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        return (yield)
    except (DeviceNotFoundError, AssertionError) as error:  # raised here, or printed by a process that the test started
        if "'opencl' has no device" in str(error) and (why := why_no_opencl()):
            pytest.skip(why)
        raise
    finally:  # a command that ran in this process has its messages written to what the test captured
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def pytest_sessionstart() -> None:
    """Before any test or fixture: what signals do."""
    SIGNALS[:] = [action_of(signal.SIGINT), stack_for_signals()]


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Generator[None, None, None]:
    """Tests call providers and their libraries directly, where the core would put back what these do to signals.

    OpenVINO leaves a thread with a stack for handlers that it has freed: the next signal ends the process without a
    word, and a worker of pytest-xdist has "crashed".
    """
    _put_back_signals()  # fixtures of the session may have run before
    yield
    _put_back_signals()


def _put_back_signals() -> None:
    action, stack = SIGNALS
    if action_of(signal.SIGINT)[:ADDRESS_BYTES] != action[:ADDRESS_BYTES]:
        put_back(signal.SIGINT, action)
    put_back_stack(stack)


@functools.cache
def why_no_opencl() -> str:
    """Where the one runtime's compiler does not know this processor: so. "" where a device is here, or not for that."""
    provider = pytest.importorskip("mace_opencl.provider", reason="mace-opencl is not installed")
    with signals_kept():
        found = provider.OpenClProvider().probe()
    refused = [each for each in found.missing if "takes no program for this processor" in each.reason]
    return "" if found.devices or not refused else f"{refused[0].what}: {refused[0].reason}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run where something wrote to what would have been the user's own cache."""
    if (USER / "mace").exists() and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so."""
    if (USER / "mace").exists():
        terminalreporter.section("the user's cache", sep="=", red=True)
        terminalreporter.line(f"A test ran without MACE_CACHE_DIR and wrote to the user's cache, here {USER / 'mace'}.")
        terminalreporter.line("Remove that folder once the test is mended.")
