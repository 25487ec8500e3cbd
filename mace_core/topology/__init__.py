"""What of a model a device refuses, and what can be put in its place: combinations that exporters emit and targets
decline, found by asking the device, and mended by rewrites that the device takes and that compute the same.

    report = check_topology("model.onnx", "hexagon:v75", shapes={"x": (1, 3, 224, 224)})
    print(report)
"""

from mace_core.topology.check import check_topology
from mace_core.topology.report import Finding, TopologyReport
from mace_core.topology.rule import Rule, rules

__all__ = ["Finding", "Rule", "TopologyReport", "check_topology", "rules"]
