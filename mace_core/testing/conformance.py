"""The checks a provider must pass, as a pytest class to inherit from."""

from __future__ import annotations

from mace_core.testing.expected import reference
from mace_core.testing.kit.blobs import BlobChecks
from mace_core.testing.kit.buckets import BucketChecks
from mace_core.testing.kit.claims import ClaimChecks
from mace_core.testing.kit.comparing import assert_agrees
from mace_core.testing.kit.forms import FormChecks
from mace_core.testing.kit.in_place import InPlaceChecks
from mace_core.testing.kit.life import LifeChecks
from mace_core.testing.kit.memory import MemoryChecks
from mace_core.testing.kit.queues import QueueChecks
from mace_core.testing.kit.results import ResultChecks
from mace_core.testing.kit.stopping import StoppingChecks
from mace_core.testing.kit.symbolic import SymbolicChecks


class ProviderConformance(
    ClaimChecks,
    ResultChecks,
    FormChecks,
    LifeChecks,
    StoppingChecks,
    BlobChecks,
    MemoryChecks,
    QueueChecks,
    BucketChecks,
    SymbolicChecks,
    InPlaceChecks,
):
    """Inherit from this, set ``declaration``, and run pytest.

    Cases whose operator the declaration does not name must be declined with a reason, and still be computed right
    through fallback.  Forms of operators (see `mace_core.testing.forms`) may be declined; those claimed must be right.
    """


__all__ = ["ProviderConformance", "assert_agrees", "reference"]
