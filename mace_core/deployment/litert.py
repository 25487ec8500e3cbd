"""LiteRT's interpreter, where it is installed: what computes the expected results of a TFLite model."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_core.deployment.interface import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Port
from mace_core.deployment.samples import Feeds, own_feeds, row_major
from mace_core.errors import describe_error
from mace_core.frontend.importing import ImportOptions
from mace_core.frontend.tflite.importer import chosen_signature
from mace_core.frontend.tflite.reader import read_model
from mace_core.graph import Graph
from mace_core.graph.kept import kept_state
from mace_core.tensor.files import open_bytes

_log = logging.getLogger("mace.deployment")


@dataclass(frozen=True, slots=True)
class LiteRtModel:
    """A whole TFLite model.

    Attributes:
        path: its file.
        inputs, outputs: names of its tensors as they were imported, in the file's order, without its state.
        signature: the key of the one that was imported; None: the first subgraph, which an interpreter begins with.
    """

    path: Path
    inputs: Sequence[str]
    outputs: Sequence[str]
    signature: str | None = None

    @classmethod
    def of(cls, path: Path, graph: Graph) -> LiteRtModel:
        """A file, as it was imported."""
        model = read_model(open_bytes(path, mmap=True).data, f"model '{path}'")
        chosen = chosen_signature(model, ImportOptions.of().signature, f"model '{path}'")
        states = kept_state(graph)
        ours = {*states, *(state.output for state in states.values())}
        inputs, outputs = (
            [value.name for value in values if value.name not in ours] for values in (graph.inputs, graph.outputs)
        )
        return cls(path, inputs, outputs, None if chosen is None or chosen.subgraph == 0 else chosen.key)

    def run(self, samples: Sequence[Feeds], inputs: Sequence[Port], outputs: Sequence[Port]) -> list[Feeds] | None:
        """What the interpreter gives for samples of a converted model, as that gives it.

        Returns:
            None where the interpreter is not installed or does not take the model, and where the converted model
            begins or ends somewhere else.
        """
        if importlib.util.find_spec("ai_edge_litert") is None:
            return None
        fed, given = [p for p in inputs if not p.is_state], [p for p in outputs if not p.is_state]
        if {p.tensor for p in fed} != set(self.inputs) or not {p.tensor for p in given} <= set(self.outputs):
            return None
        try:
            if len(fed) == len(inputs):
                return self._run(samples, fed, given)
            # an interpreter remembers: each sample is the first run of one of its own
            return [self._run([sample], fed, given)[0] for sample in samples]
        except (KeyError, RuntimeError, ValueError) as error:  # for operators, shapes and names that it does not take
            _log.info("LiteRT does not run '%s': %s", self.path, describe_error(error))
            return None

    def _run(self, samples: Sequence[Feeds], inputs: Sequence[Port], outputs: Sequence[Port]) -> list[Feeds]:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter: Any = Interpreter(model_path=str(self.path), experimental_op_resolver_type=plain)
        if self.signature is not None:
            runner = interpreter.get_signature_runner(self.signature)
            named = [runner(**feeds) for feeds in own_feeds(samples, inputs)]
            return [{port.name: _given(each[port.tensor], port) for port in outputs} for each in named]
        places = dict(zip(self.inputs, interpreter.get_input_details(), strict=True))
        for port in inputs:
            interpreter.resize_tensor_input(places[port.tensor]["index"], list(port.own_shape))
        interpreter.allocate_tensors()
        results = dict(zip(self.outputs, interpreter.get_output_details(), strict=True))
        found: list[Feeds] = []
        for feeds in own_feeds(samples, inputs):
            for name, array in feeds.items():
                interpreter.set_tensor(places[name]["index"], array)
            interpreter.invoke()
            found.append(
                {port.name: _given(interpreter.get_tensor(results[port.tensor]["index"]), port) for port in outputs}
            )
        return found


def _given(array: Any, port: Port) -> Any:
    """A tensor of the model as the port gives it; ``order`` are its axes in those of the port."""
    assert port.order in ((), TO_CHANNELS_FIRST, TO_CHANNELS_LAST)
    turned = array.transpose(port.order) if port.order else array.reshape(port.shape)
    return row_major(turned.astype(port.dtype.numpy))
