"""What quantization did to a model: figures, warnings, a summary for the terminal, JSON and a page of HTML."""

from mace_core.quantization.report.findings import LayerFinding, Metric, Report, ValueFinding
from mace_core.quantization.report.page import html
from mace_core.quantization.report.summary import report_json, text

__all__ = ["LayerFinding", "Metric", "Report", "ValueFinding", "html", "report_json", "text"]
