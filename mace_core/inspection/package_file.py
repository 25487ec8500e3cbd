"""What a package holds beside its graph."""

from __future__ import annotations

from mace_core.inspection.facts import CompiledFact, Inspection, SectionFact
from mace_core.package import Package
from mace_core.package.compiled import compiled_parts


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
