"""The test suite of the ONNX package, run through sessions.

    python -m mace_testing.backend_suite --provider cpu

Two figures per provider: *native*, what the provider claims and computes rightly with nothing else to help it, and
*with fallback*, what comes out right when nodes it declines run on the reference.
"""

from mace_testing.backend_suite.cases import SuiteCase, quick_names, suite_cases
from mace_testing.backend_suite.judge import Conditions, Outcome, Verdict, judge
from mace_testing.backend_suite.report import Figures, figures, operator_page, summary

__all__ = [
    "Conditions",
    "Figures",
    "Outcome",
    "SuiteCase",
    "Verdict",
    "figures",
    "judge",
    "operator_page",
    "quick_names",
    "suite_cases",
    "summary",
]
