"""Samples: made where a trusted engine is, compared where the model is to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.errors import InputError, MaceError, UsageError
from mace_core.frontend.load import load_model, package_of
from mace_core.graph import Graph
from mace_core.graph.copying import copy_graph
from mace_core.numerics.difference import compare
from mace_core.numerics.findings import Layer, Progress, Validation, described
from mace_core.numerics.noise import Floor
from mace_core.numerics.peers import PEERS
from mace_core.numerics.values import part_of
from mace_core.operators.processing import DOMAIN
from mace_core.package.samples import TOLERANCES, Sample, read_samples
from mace_core.provider.inventory import find_device
from mace_core.provider.registry import REFERENCE, Registry, default_registry
from mace_core.scheduler.planning.stages import fragment
from mace_core.session import Session
from mace_core.tensor import DType, Tensor, TensorType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.numerics.values import Options

HALVES: Mapping[DType, float] = {DType.FLOAT16: 0.005, DType.BFLOAT16: 0.03}
ROUNDED = 0.02
"""What two right engines may differ by where a model computes in halves, or rounds activations to 8 bits: a sum whose
last bit differs is rounded the other way, and the layers behind it add to that."""

_ROUNDS = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention", "QGemm"}
)

ONNXRUNTIME = "onnxruntime"
HOST = "cpu"


def make_samples(
    model: Model,
    feeds: Mapping[str, Mapping[str, Any]],
    *,
    by: str = "",
    sources: Mapping[str, str] | None = None,
    tolerances: Mapping[str, float] | None = None,
    registry: Registry | None = None,
) -> list[Sample]:
    """Samples for `mace_core.compile`: inputs with the outputs that a trusted engine computes of them.

    Args:
        model: what computes the outputs: the model itself, or the float model that a quantized one was made of, with
            the same inputs and outputs.  A ``Graph`` is not changed.
        feeds: name of a sample -> name of an input -> array.
        by: "onnxruntime", "openvino" or a device; "" for onnxruntime where it is installed and takes the model, else
            the device ``cpu`` where it is installed, else ``reference``.
        sources: name of a sample -> where its inputs come from, for people.
        tolerances: allowed errors that differ from the usual ones (`mace_core.package.samples.TOLERANCES`, and
            `least_allowed`).
        registry: where providers are found.

    Raises:
        UsageError: if ``by`` is not there or does not take the model, or an output is no tensor.
        InputError: if the feeds do not fit the model.
        MaceError: as of ``Session``.
    """
    graph = model if isinstance(model, Graph) else load_model(model)
    missing = {name: [v.name for v in graph.inputs if v.name not in given] for name, given in feeds.items()}
    for name, names in missing.items():
        if names:
            raise InputError(f"the sample '{name}' has no value for the input '{names[0]}'")
    registry = registry or default_registry()
    least = least_allowed(graph)
    allowed = {**{kind: max(error, least) for kind, error in TOLERANCES.items()}, **(tolerances or {})}
    made = []
    for name, given in feeds.items():
        inputs = {key: np.asarray(value) for key, value in given.items()}
        outputs, told = _expected(graph, inputs, by, registry)
        outputs = {value.name: outputs[value.name] for value in graph.outputs}
        source = (sources or {}).get(name, "")
        made.append(Sample(name, _tensors(name, inputs), _tensors(name, outputs), told, source, allowed))
    return made


def least_allowed(graph: Graph) -> float:
    """The least error that a sample of a model allows by default, as a part of an output's range."""
    types = [value.type for value in (*graph.inputs, *graph.outputs)]
    found = {declared.dtype for declared in types if isinstance(declared, TensorType)}
    least = 0.0
    for node in graph.nodes:
        if node.op_type in _ROUNDS or node.op_type.startswith("QLinear"):
            least = max(least, ROUNDED)
        elif node.op_type == "Cast":
            found.add(DType(int(node.attr("to"))))
        else:
            found |= {v.constant.dtype for v in node.inputs if v is not None and v.constant is not None}
        least = max([least, *(least_allowed(body) for body in node.subgraphs())])
    return max([least, *(HALVES.get(dtype, 0.0) for dtype in found)])


def _expected(graph: Graph, inputs: Mapping[str, Any], by: str, registry: Registry) -> tuple[dict[str, Any], str]:
    """The outputs, and what computed them."""
    candidates = [by] if by else [ONNXRUNTIME, HOST, REFERENCE]
    failure: MaceError | None = None
    for name in candidates:
        if name not in PEERS and name.partition(":")[0] not in registry.names() and not by:
            continue
        try:
            if name in PEERS:
                return _by_peer(graph, inputs, name, registry), _version_of(name)
            with Session(copy_graph(graph)[0], devices=[name], cache=False, registry=registry) as session:
                return session.run(inputs), f"the device {name}"
        except UsageError as error:  # not installed, or it does not take the model
            failure = failure or error
    assert failure is not None
    raise failure


def _by_peer(graph: Graph, inputs: Mapping[str, Any], name: str, registry: Registry) -> dict[str, Any]:
    """The outputs as another framework computes them; the core computes operators of its own, which end a graph."""
    if not any(node.domain == DOMAIN for node in graph.nodes):
        return PEERS[name](graph, inputs)
    graph, _ = copy_graph(graph)  # its parts get types, and share nodes and values with it
    own = [node for node in graph.nodes if node.domain == DOMAIN]
    made = {value for node in own for value in node.outputs}
    reads = [value for node in own for value in node.inputs if value is not None and value.constant is None]
    outputs = dict.fromkeys([*(value for value in graph.outputs if value not in made), *reads])
    if made.intersection(reads):
        raise UsageError(f"{name} cannot run operators of {DOMAIN} that follow each other: let a device compute it")
    rest = fragment(graph, [node for node in graph.nodes if node not in own], graph.inputs, outputs, name=graph.name)
    rest.opset_imports = {domain: version for domain, version in graph.opset_imports.items() if domain != DOMAIN}
    found = PEERS[name](rest, inputs)
    last, feeds = part_of(graph, own, [value for value in graph.outputs if value in made], found)
    with Session(last, devices=[REFERENCE], optimize=False, cache=False, registry=registry) as session:
        return {**found, **session.run(feeds)}


def _version_of(name: str) -> str:
    import importlib

    return f"{name} {importlib.import_module(name).__version__}"


def _tensors(sample: str, values: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            raise UsageError(
                f"the sample '{sample}': '{name}' is {described(value)}, and a sample holds tensors alone: leave the "
                "samples out for this model"
            )
        found[name] = Tensor.from_numpy(value)
    return found


def has_samples(model: Model) -> bool:
    """Whether a model is a package that holds samples.

    Raises:
        PackageError: if it is a package and damaged.
    """
    package = package_of(model, cache=True, mmap=True)
    return package is not None and bool(read_samples(package))


def validate_samples(
    model: Model,
    *,
    devices: Sequence[str] | None = None,
    options: Options | None = None,
    strict: bool = False,
    pins: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> list[Validation]:
    """Run the samples of a package and compare with what is expected; needs no other file and no other engine.

    Args:
        model: a package, as a path or bytes.
        devices, options, strict, pins: as for ``Session``.
        tolerance: largest error allowed, as a part of the range (or the largest magnitude, where that is more) of an
            output; None: what each sample allows the devices that run a part of the model, the most lenient of them.
        registry: where providers are found.
        progress: told what is being done.

    Returns:
        What was found, for each sample.

    Raises:
        UsageError: if it is no package, or holds no samples.
        MaceError: as of ``Session`` and its ``run``.
    """
    package = package_of(model, cache=True, mmap=True)
    if package is None:
        raise UsageError("only a package holds samples: give inputs to compare, or compile the model with samples")
    samples = read_samples(package)
    if not samples:
        raise UsageError(f"{package.label} holds no samples: give inputs to compare, or compile it with samples")
    registry = registry or default_registry()
    found = []
    with Session(model, devices=devices, options=options, strict=strict, pins=pins, registry=registry) as session:
        for number, sample in enumerate(samples):
            if progress is not None:
                progress(f"running the sample '{sample.name}'", number, len(samples))
            found.append(_compared(session, package.label, sample, tolerance, registry))
    return found


def _compared(session: Session, label: str, sample: Sample, tolerance: float | None, registry: Registry) -> Validation:
    results = session.run({name: tensor.numpy() for name, tensor in sample.inputs.items()})
    if results.keys() != sample.outputs.keys():
        raise InputError(
            f"{label}: the sample '{sample.name}' is for the outputs {_listed(sample.outputs)}, and the model has "
            f"{_listed(results)}: compile it again"
        )
    placed = session.explain({name: tensor.shape for name, tensor in sample.inputs.items()}).nodes_per_device
    where = ", ".join(f"{device} ({count} nodes)" for device, count in placed.items())
    if tolerance is None:
        tolerance = max(
            (sample.tolerance(name, kind) for name, kind in _kinds(placed, registry)),
            default=sample.tolerance("", "cpu"),
        )
    outputs = []
    for name, tensor in sample.outputs.items():
        expected = tensor.numpy()
        difference = compare(_comparable(results[name]), expected)
        floor = Floor(0.0, tolerance * _magnitude(expected))
        outputs.append(Layer("", "", name, where, described(expected), difference, floor=floor))
    done = Validation(label, where, f"its sample '{sample.name}' ({sample.expected_by})", tolerance, outputs)
    wrong = [layer for layer in outputs if done.diverges(layer, layer.difference)]
    allowed = f"{tolerance:g} of its range or magnitude"
    return dataclasses.replace(
        done,
        verdict=(
            f"output '{wrong[0].output}' differs from what the sample '{sample.name}' expects by more than {allowed}"
            if wrong
            else f"every output agrees with the sample '{sample.name}' within {allowed}"
        ),
    )


def _magnitude(values: Any) -> float:
    """Of the largest number, where rounding depends on that."""
    if not DType.from_numpy(values.dtype).is_float:
        return 0.0
    found = np.abs(values.astype(np.float64))
    return float(found[np.isfinite(found)].max(initial=0.0))


def _comparable(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else np.asarray(value)


def _kinds(placed: Mapping[str, int], registry: Registry) -> list[tuple[str, str]]:
    """The devices that run something, with their kinds; what the core does itself is none."""
    return [
        (name, find_device(name, registry).kind.value) for name in placed if name.partition(":")[0] in registry.names()
    ]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
