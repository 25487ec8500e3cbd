"""`mace explain`: where each node of a model runs, and why."""

from __future__ import annotations

from mace_core.cli.options import Devices, Json, Model, Pins, ProviderOptions, Shapes, Strict


def explain(
    model: Model,
    shape: Shapes = [],  # noqa: B006 - typer copies it
    device: Devices = [],  # noqa: B006
    strict: Strict = False,
    pin: Pins = [],  # noqa: B006
    option: ProviderOptions = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Say where each node would run and why, and why not on the devices that come before. Nothing is run.

    Where dimensions are open and --shape does not set them, sizes are assumed, and the first line says which.

    Examples:

      mace explain model.onnx

      mace explain model.onnx --shape x=1x3x48x320 --device opencl --device cpu
    """
    from mace_core.cli import output
    from mace_core.cli.inputs import concrete_shape, parse_shapes
    from mace_core.cli.placement import explanation_data
    from mace_core.cli.sessions import open_session

    with open_session(model, devices=device, strict=strict, pins=pin, provider_options=option) as session:
        given = parse_shapes(shape, session.inputs)
        shapes = (
            {spec.name: concrete_shape(spec, given.get(spec.name), {}) for spec in session.inputs} if given else None
        )
        with output.progress("Planning"):
            found = session.explain(shapes)
    if as_json:
        output.print_json(explanation_data(found))
    else:
        output.print_line(str(found))
