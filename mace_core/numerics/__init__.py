"""How far the results of devices are from a reference's, for a whole model and value by value.

Finding faults, not running models: nothing here is used by a session.  The check for NaN and infinities while a model
runs is ``scheduler/numerics.py``.
"""

from mace_core.numerics.difference import Difference, compare
from mace_core.numerics.findings import Layer, Validation
from mace_core.numerics.samples import make_samples, validate_samples
from mace_core.numerics.steps import Steps
from mace_core.numerics.validation import validate

__all__ = ["Difference", "Layer", "Steps", "Validation", "compare", "make_samples", "validate", "validate_samples"]
