"""The mask of an attention in which no query sees a key after its own, where its sizes are decided at the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32

WORDS = {
    "causal_mask": "target keys",
}


def causal_mask() -> Kernel:
    """0 for the keys that a query sees, and minus infinity.  Unit: row of the mask, one for each query."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target, keys = f32(args[0]), args[1]
        for query in range(begin, end):
            for key in range(keys):
                target[query * keys + key] = np.float32(0) if key <= query else np.float32(-np.inf)

    return kernel
