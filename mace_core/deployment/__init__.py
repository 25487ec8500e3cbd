"""Deployment files of MACE (``.yml``): what to convert, how to check it, and what to build of it.

from pathlib import Path
from mace_core.deployment import Request, convert_deployment

done = convert_deployment(Path("mobilenet_v1.yml"), Request(target_abis=("arm64-v8a",)))
print(done.folder, done.is_good)
"""

from __future__ import annotations

from mace_core.deployment.convert import convert_deployment
from mace_core.deployment.judge import Judgement, Verdict
from mace_core.deployment.outcome import Conversion, Converted
from mace_core.deployment.request import Request
from mace_core.deployment.yaml_tree import ConfigError

__all__ = ["ConfigError", "Conversion", "Converted", "Judgement", "Request", "Verdict", "convert_deployment"]
