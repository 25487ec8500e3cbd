"""What a package holds beside its graph."""

from __future__ import annotations

from mace_core.errors import MaceError, PackageError
from mace_core.inspection.facts import (
    CompiledFact,
    DocumentFact,
    Inspection,
    SampleFact,
    SectionFact,
    SignatureFact,
    StepFact,
)
from mace_core.package import Package
from mace_core.package.compiled import compiled_parts
from mace_core.package.documents import read_documents
from mace_core.package.keys import key_id
from mace_core.package.samples import read_samples
from mace_core.package.signatures import Signature, is_good, signatures_of
from mace_core.package.steps import read_steps


def add_package_facts(found: Inspection, package: Package) -> None:
    """The form, the origin, what devices compiled, and all sections.

    Raises:
        PackageError: if the package does not say what its sections are.
    """
    found.properties = {"package format": ".".join(map(str, package.format)), **package.metadata}
    for part in compiled_parts(package):
        found.compiled.append(
            CompiledFact(
                part.device,
                part.signature,
                part.subgraphs,
                part.nodes,
                part.nbytes,
                part.options,
                part.compatibility,
            )
        )
    for each in package.sections:
        found.sections.append(SectionFact(each.kind, each.name, each.offset, each.nbytes, each.is_required))
    for when, steps in read_steps(package).items():
        found.steps += [StepFact(when, one["step"], {k: v for k, v in one.items() if k != "step"}) for one in steps]
    found.samples = [SampleFact(s.name, s.source, s.expected_by, dict(s.tolerances)) for s in read_samples(package)]
    found.documents = [DocumentFact(one.role, one.name, one.type, one.text) for one in read_documents(package)]
    found.signatures = [SignatureFact(key_id(one.key), _fits(package, one)) for one in signatures_of(package)]


def _fits(package: Package, signature: Signature) -> bool | None:
    """Whether a signature fits; None where the library that tells is not installed."""
    try:
        return is_good(package, signature)
    except PackageError:
        raise
    except MaceError:
        return None
