"""What kernels need to know of the machine and of the code that made them.

* `default_threads`: how many threads this process should use; `cgroup_quota`: what its container allows.
* `usable_processors`, `choose_processors`, `AFFINITIES`: which processors are fast and which are frugal.
* `processor_name`: what people call the processor.
* `build_id`: what identifies the code of a plugin to the caches.
"""

from mace_core.caching.build_id import build_id
from mace_core.host.processor_name import processor_name
from mace_core.host.processors import AFFINITIES, choose_processors, usable_processors
from mace_core.host.threads import cgroup_quota, default_threads

__all__ = [
    "AFFINITIES",
    "build_id",
    "cgroup_quota",
    "choose_processors",
    "default_threads",
    "processor_name",
    "usable_processors",
]
