"""Where operators come from: the families of the standard, and packages that publish those of other domains.

A package publishes under the entry-point group ``mace.operators``: the domain is the name, the module to import the
value.  Its modules below are imported with it, so that every family registers what it holds.  The operators of
com.microsoft, ai.onnx.ml and training that come with the core are published in this way too.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from types import ModuleType

from mace_core.host.fork_safe import fork_safe_rlock

GROUP = "mace.operators"
CUSTOM_GROUP = "mace.custom_ops"
"""Of custom operators (`mace_core.custom_op`)."""

_ONNX_DOMAINS = frozenset({"", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.preview"})
_STANDARD = "mace_core.operators.standard"
_OWN = {"mace.processing": "mace_core.operators.processing"}
"""The core's own domains, which need no entry point: a package that uses them runs wherever the core is."""

_log = logging.getLogger("mace.operators")
_lock = fork_safe_rlock()
loaded: set[str] = set()
"""Domains that were looked for in every group."""

_asked: dict[tuple[str, str], str] = {}
"""Groups and domains that were looked for, with what went wrong ("" where nothing did)."""

_published: set[str] = set()
"""Domains for which a package was found."""


def is_onnx_domain(domain: str) -> bool:
    """Whether onnx has schemas for ``domain``."""
    return domain in _ONNX_DOMAINS


def load_domain(domain: str) -> None:
    """Import what is published for a domain, once per process; "" is the standard's own.

    The operators of a package that cannot be imported are not known: the log says so, and `problem_with` says why.
    """
    if domain in loaded:
        return
    with _lock:
        if domain not in loaded:
            if domain in _OWN:
                _published.add(domain)
                import_families(importlib.import_module(_OWN[domain]))
            elif domain:
                for group in (GROUP, CUSTOM_GROUP):
                    import_published(group, domain)
            else:
                import_families(importlib.import_module(_STANDARD))
            loaded.add(domain)  # now, not before: another thread must not find half of a domain


def import_published(group: str, domain: str) -> str:
    """Import what installed packages publish for a domain in one group, once per process.

    Returns:
        Why a package could not be imported, "" where nothing went wrong.
    """
    with _lock:
        if (group, domain) not in _asked:
            _asked[group, domain] = ""  # its modules may ask for the domain themselves
            _asked[group, domain] = _import(group, domain)
        return _asked[group, domain]


def problem_with(domain: str) -> str:
    """Why operators of a domain that was looked for may be missing, for an error about one; "" where nothing is known.

    Nothing is imported for this.
    """
    found = [_asked[group, domain] for group in (GROUP, CUSTOM_GROUP) if (group, domain) in _asked]
    if not any(found) and domain in loaded and domain not in _published:
        return f"no installed package publishes operators of {domain}" if domain else ""
    return "; ".join(problem for problem in found if problem)


def import_families(package: ModuleType) -> None:
    """Import every module of a package, each of which registers the operators of its family."""
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        importlib.import_module(f"{package.__name__}.{found.name}")


def _import(group: str, domain: str) -> str:
    from mace_core.discovery.entry_points import describe, discover, load, trace

    problem = ""
    for entry in discover(group):
        if entry.name != domain:
            continue
        _published.add(domain)
        trace(f"operators of {domain}: importing {entry.value} from {entry.provenance}")
        try:
            found = load(entry)
            if isinstance(found, ModuleType):
                import_families(found)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may raise anything on import, SystemExit included
            problem = f"the package that publishes it ({entry.provenance}) cannot be imported: {describe(error)}"
            _log.warning("operators of %s: %s", domain, problem)
    return problem
