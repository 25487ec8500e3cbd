"""`mace explain`: where each node of a model runs, and why."""

from __future__ import annotations

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options


@shared_options
def explain(
    model: Model, *, reading: ReadingOptions, session: SessionOptions, inputs: InputOptions, output: OutputOptions
) -> None:
    """Show where each node would run, and why not on the devices before. Nothing is run.

    If dimensions are free and neither --shape nor --input sets them, sizes are assumed; the first line says which.

    Examples:

      mace explain model.onnx

      mace explain model.onnx --shape x=1x3x48x320 --device opencl --device cpu
    """
    from mace_core.cli.output import ALL_HINT, print_folded, print_table, progress
    from mace_core.cli.placement import explanation_data
    from mace_core.presentation.table import ROWS_SHOWN

    with session.open(model) as opened, progress("Planning"):
        assumed = inputs.shapes(opened)
        found = opened.explain(assumed.shapes)
        if assumed.sizes:
            found.signature += f" (assumed: {assumed.note})"

    def text() -> None:
        if output.all_rows or len(found.nodes) <= ROWS_SHOWN:
            for line in str(found).splitlines():
                print_folded(line)
            return
        for line in found.summary_lines():
            print_folded(line)
        print_table(found.reasons_table().top(hint=ALL_HINT))
        print_folded(f"{len(found.nodes)} nodes in {len(found.partitions)} partitions, one by one: --all")

    output.deliver("explain", explanation_data(found), text)
