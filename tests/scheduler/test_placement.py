"""Placing: what a device fails to compile goes elsewhere, and nothing of the attempt is left behind."""

from __future__ import annotations

import numpy as np
from scheduler_models import chain
from scheduler_stand_ins import make_provider, registry_of

from mace_core.session import Session


def test_what_was_compiled_for_a_partition_that_is_given_up_is_closed() -> None:
    """The first device fails to compile, so the second takes its node, too, and compiles the whole anew."""
    near = make_provider("near", claims={"Abs"}, compile_fails={"Abs"})
    far = make_provider("far")
    with Session(chain("Neg", "Abs", "Exp"), devices=["near", "far"], registry=registry_of(near, far)) as session:
        x = np.float32([[-2, 1, 0, 3]])
        np.testing.assert_allclose(session.run({"x": x})["y"], np.exp(np.abs(x)), rtol=1e-6)
        backend = far.opened[-1]
        assert backend.compile_calls == 2, "once around the failing device, once for all"
        assert backend.compiled_alive == 1, "only what the plan uses is kept"
    assert backend.compiled_alive == 0
