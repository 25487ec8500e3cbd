"""What a model file says of itself, without running it: inputs, operators, parameters, work, memory, problems.

Needs the core alone.  What a device would do with the model is another question: `Session.explain`.
"""

from mace_core.inspection.facts import Inspection, LayerFact, ParameterCount, Problem, Severity, ValueFact
from mace_core.inspection.inspect import Examined, examine_model, inspect_model

__all__ = [
    "Examined",
    "Inspection",
    "LayerFact",
    "ParameterCount",
    "Problem",
    "Severity",
    "ValueFact",
    "examine_model",
    "inspect_model",
]
