"""scikit-learn: estimators and pipelines give what scikit-learn computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core import Session
from mace_core.errors import ModelError
from mace_core.frontend import load_model, trusted_files

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'mace-core[sklearn]'")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install 'mace-core[sklearn]'")
pytestmark = pytest.mark.full

import joblib  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return load_iris(return_X_y=True)  # type: ignore[no-any-return]


def test_a_pipeline_that_a_program_holds(data: tuple[Any, Any]) -> None:
    x, y = data
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(x, y)
    rows = x.astype(np.float32)
    with Session(load_model(pipeline, rows)) as session:
        label, scores = session.run({"X": rows}).values()
    assert (label == pipeline.predict(x)).mean() > 0.99
    np.testing.assert_allclose(
        scores, pipeline.predict_proba(x), atol=0.11
    )  # a row at a border changes one tree of ten
    assert np.abs(scores - pipeline.predict_proba(x)).mean() < 5e-3


def test_a_file_that_is_trusted(data: tuple[Any, Any], tmp_path: Path) -> None:
    x, y = data
    model = Ridge().fit(x, y)
    joblib.dump(model, tmp_path / "ridge.joblib")
    with pytest.raises(ModelError, match="if you trust"):
        load_model(tmp_path / "ridge.joblib")
    with trusted_files():
        graph = load_model(tmp_path / "ridge.joblib")
    assert graph.metadata["mace.exported_by"].startswith("skl2onnx ")
    with Session(graph) as session:
        (found,) = session.run({"X": x.astype(np.float32)}).values()
    np.testing.assert_allclose(found[:, 0], model.predict(x), atol=1e-4)


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    joblib.dump({"a": 1}, tmp_path / "dict.joblib")
    with trusted_files(), pytest.raises(ModelError, match=r"the file holds a builtins\.dict, not an estimator"):
        load_model(tmp_path / "dict.joblib")
