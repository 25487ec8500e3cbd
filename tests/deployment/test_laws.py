"""Whatever a file holds: a deployment, or an error of ours with a place."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mace_core.deployment.range_files import read_ranges, write_ranges
from mace_core.deployment.read import deployment_of
from mace_core.deployment.schema import Deployment, GraphKeys, ModelKeys
from mace_core.deployment.yaml_tree import ConfigError, parse_document

KEYS = sorted({*Deployment.model_fields, *ModelKeys.model_fields, *GraphKeys.model_fields, "dsp_mode", "build_type"})
WORDS = [
    "cpu",
    "gpu",
    "onnx",
    "1",
    "0",
    "ON",
    "1,2,3,4",
    "-1,1",
    "file",
    "code",
    "host",
    "a",
    "",
    "NHWC",
    "float32",
    "~",
]
SCALARS = st.one_of(st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), inner, max_size=6),
    ),
    max_leaves=20,
)


def read(text: str) -> Deployment | str:
    try:
        found = deployment_of(parse_document(text, "f.yml", {}))
    except ConfigError as error:
        assert str(error).startswith(("f.yml", "2", "3", "4", "5", "6", "7", "8", "9", "1")), str(error)
        assert "f.yml" in str(error)
        return str(error)
    assert isinstance(found, Deployment)
    return found


@given(st.text(max_size=200))
def test_any_text_is_a_deployment_or_an_error(text: str) -> None:
    read(text)


@given(st.text(alphabet="[]{}&*!|>-: \n'\"%#,?<a1\t", max_size=60))
def test_any_syntax_is_a_deployment_or_an_error(text: str) -> None:
    read(text)


@given(VALUES)
def test_any_tree_is_a_deployment_or_an_error(tree: object) -> None:
    read(yaml.safe_dump(tree, allow_unicode=True))


@given(
    st.fixed_dictionaries(
        {
            "library_name": SCALARS,
            "target_abis": st.sampled_from(["host", ["arm64-v8a"], "armhf,host", 3]),
            "models": st.fixed_dictionaries(
                {
                    "m": st.fixed_dictionaries(
                        {
                            "platform": st.sampled_from(["onnx", "TFLite", "caffe", 1]),
                            "model_file_path": SCALARS,
                            "subgraphs": st.lists(
                                st.dictionaries(st.sampled_from(sorted(GraphKeys.model_fields)), VALUES, max_size=8),
                                max_size=2,
                            ),
                        }
                    )
                }
            ),
        }
    )
)
def test_any_values_of_real_keys_are_a_deployment_or_an_error(tree: object) -> None:
    read(yaml.safe_dump(tree, allow_unicode=True))


NAMES = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(NAMES.filter(lambda name: "@@" not in name and not name.endswith("@")), st.tuples(NUMBERS, NUMBERS))
)
def test_ranges_are_read_as_they_were_written(ranges: dict[str, tuple[float, float]]) -> None:
    ordered = {name: (min(ends), max(ends)) for name, ends in ranges.items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "overall_range"
        write_ranges(path, ordered)
        if ordered:
            assert read_ranges(path) == ordered
