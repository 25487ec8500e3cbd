"""What a model file says of itself, without running it: inputs, operators, parameters, work, memory, problems.

Needs the core alone.  What a device would do with the model is another question: `Session.explain`.
"""

from mace_core.inspection.facts import Inspection, ParameterCount, Problem, Severity, ValueFact
from mace_core.inspection.inspect import inspect_model

__all__ = ["Inspection", "ParameterCount", "Problem", "Severity", "ValueFact", "inspect_model"]
