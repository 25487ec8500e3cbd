"""What the sessions of other processes do: each process that publishes keeps one small file up to date."""

from mace_core.monitoring.board import Published, published, withdraw
from mace_core.monitoring.publisher import publish, publish_if_asked, publish_quietly

__all__ = ["Published", "publish", "publish_if_asked", "publish_quietly", "published", "withdraw"]
