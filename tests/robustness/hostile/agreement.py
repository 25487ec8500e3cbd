"""Asks MACE and, where that has a result, onnxruntime; told by hand:

python -m hostile.agreement --only Conv --every 1
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile import attributes, outputs
from hostile.__main__ import say, wrong_with
from hostile.attributes import unchanged
from hostile.case import Case
from hostile.nodes import Base, bases
from hostile.runner import Outcome, Worker

KNOWN = (
    # a root that is a leaf without a weight gives nothing; onnxruntime takes the weights of another leaf
    ("TreeEnsembleRegressor:", "nodes_modes reversed"),
    ("TreeEnsembleClassifier:", "nodes_modes reversed"),
    # fewer base values than classes: onnxruntime answers with labels that are none of the node's
    ("TreeEnsembleClassifier:", "base_values short"),
    ("TreeEnsembleClassifier:", "base_values first only"),
    # onnxruntime numbers them otherwise than the standard: LOGISTIC before SOFTMAX
    ("TreeEnsemble:", "post_transform = 1"),
    ("TreeEnsemble:", "post_transform = 2"),
    # SAME makes the result as long as the image times the stride, also where that is more than the windows cover
    ("ConvTranspose: test_convtranspose_autopad_same", "strides first 9"),
    ("ConvTranspose: test_convtranspose_autopad_same", "strides last 9"),
    # scores that a mask takes away are minus infinity in the standard; onnxruntime shows the lowest finite number
    ("Attention: test_attention_local_window_gqa_rank4_mask", "qk_matmul_output_mode = 2"),
    # a cache in use counts only where onnxruntime is asked for the present too; with it, the two agree
    ("GroupQueryAttention: drawn 1", "output 0 alone"),
    # an axis counted from behind is not found by not_larger, which leaves it as long as it was
    ("Resize: test_resize_upsample_sizes_nearest_not_larger", "axes last -1"),
)
"""Changes (of which models, and which) after which onnxruntime differs from the standard."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a case: how MACE dealt with it, what onnxruntime says of a result, and what is wrong."""

    mine: Outcome
    theirs: Outcome | None
    problems: tuple[str, ...]


class Judge:
    """Two processes, one for each."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._mace = Worker(scratch)
        self._other = Worker(scratch, "hostile.second_opinion")

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._mace.__exit__()
        self._other.__exit__()

    def ask(self, case: Case) -> Finding:
        """What becomes of it."""
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self._scratch))
        try:
            path = case.write(folder)
            mine = self._mace.ask_of(case, path)
            problems = wrong_with(mine)
            if mine.outcome != "ran" or problems or _is_beyond_comparison(case):
                return Finding(mine, None, tuple(problems))
            theirs = self._other.ask_of(case, path)
            if theirs.outcome == "differs":
                problems = [f"onnxruntime has another result: {theirs.message}"]
            return Finding(mine, theirs, tuple(problems))
        finally:
            shutil.rmtree(folder)


def _is_beyond_comparison(case: Case) -> bool:
    """Whether floats are such that it is left to the order of operations what comes of them."""
    odd = any(text in case.name for text in (" inf", " -inf", " nan", " 3e+38", " 1e-45"))
    return odd or any(case.family.startswith(model) and case.name == change for model, change in KNOWN)


def findings(
    chosen: Iterable[Base],
    scratch: Path,
    *,
    every: int = 1,
    change: Callable[[Base], Iterator[Case]] = attributes.cases,
) -> Iterator[Finding]:
    """Each good model, and every so-maniest of its changes; models that do not agree as they are are passed over."""
    number = 0
    with Judge(scratch) as judge:
        for base in chosen:
            good = judge.ask(unchanged(base))
            if good.mine.outcome != "ran" or (good.theirs is not None and good.theirs.outcome == "differs"):
                if good.mine.outcome not in ("ran", "refused when loaded", "refused when run"):
                    yield good
                continue
            yield good
            for case in change(base):
                number += 1
                if number % every == 0:
                    yield judge.ask(case)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="hostile.agreement", description=__doc__)
    parser.add_argument("--only", default="", help="operators whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="one case in so many")
    parser.add_argument("--share", default="0/1", help="which part of the models, as 0/2")
    parser.add_argument("--outputs", action="store_true", help="each output alone, instead of changed attributes")
    given = parser.parse_args()
    part, parts = (int(number) for number in given.share.split("/"))
    chosen = [base for i, base in enumerate(bases()) if given.only in base.name and i % parts == part]
    change = outputs.cases if given.outputs else attributes.cases
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for found in findings(chosen, Path(scratch), every=given.every, change=change):
            counts[f"{found.mine.outcome}, {found.theirs.outcome if found.theirs else 'not asked'}"] += 1
            if found.problems:
                counts["FAILURES"] += 1
                case = found.mine.case
                say(f"FAIL {case.family}: {case.name}: {'; '.join(found.problems)}")
                say(f"     {found.mine.kind}: {found.mine.message[:400]}")
                if found.mine.trace:
                    say("     " + "\n     ".join(found.mine.trace.strip().splitlines()[-8:]))
    for name, count in counts.most_common():
        say(f"  {count:6d} {name}")


if __name__ == "__main__":
    main()
