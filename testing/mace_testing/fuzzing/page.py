"""The documentation page about the judges, written from the table of what is known of them."""

from __future__ import annotations

from mace_testing.fuzzing.known import KNOWN, REFERENCE, RUNTIME

_HEAD = """# Where onnx.reference and onnxruntime are wrong

Found by `python -m mace_testing.fuzz`, which compares a provider with both.  Where they differ from each other,
the ONNX specification decides; what it decided is listed here, and the fuzzer does not count a judge's answer in these
cases.
Regenerate with `python -m mace_testing.fuzz --judges-page docs/judges.md`.
"""


def judges_page() -> str:
    """The page in Markdown."""
    parts = [_HEAD]
    for judge in (REFERENCE, RUNTIME):
        parts.append(
            f"\n## {judge}\n\n| operator | what it does | by the specification | example |\n|---|---|---|---|\n"
        )
        for known in sorted((known for known in KNOWN if known.judge == judge), key=lambda known: known.ops):
            parts.append(f"| {', '.join(known.ops)} | {known.what} | {known.why} | {known.example} |\n")
    return "".join(parts)
