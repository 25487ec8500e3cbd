"""The documentation page about the judges, written from the table of what is known of them."""

from __future__ import annotations

from mace_testing.fuzzing.known import KNOWN, REFERENCE, RUNTIME

_HEAD = """# Where onnx.reference and onnxruntime are wrong

The fuzzer (`python -m mace_testing.fuzz`) compares providers with onnx.reference and onnxruntime.  If the two differ,
the ONNX specification decides.  This page lists the cases in which one of them is wrong; the fuzzer ignores its answer
there.

Regenerate this page with `python -m mace_testing.fuzz --judges-page docs/judges.md`.
"""


def judges_page() -> str:
    """The page in Markdown."""
    parts = [_HEAD]
    for judge in (REFERENCE, RUNTIME):
        parts.append(
            f"\n## {judge}\n\n| operator | what it does | by the specification | example |\n|---|---|---|---|\n"
        )
        for known in sorted(
            (known for known in KNOWN if known.judge == judge), key=lambda known: (known.domain, known.ops)
        ):
            ops = ", ".join(f"{known.domain}.{op}" if known.domain else op for op in known.ops)
            parts.append(f"| {ops} | {known.what} | {known.why} | {known.example} |\n")
    return "".join(parts)
