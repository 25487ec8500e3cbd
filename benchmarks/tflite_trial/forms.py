"""The forms that TensorFlow's converter gives a function."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.tflite_trial.case import Built

_BUILTINS = tf.lite.OpsSet.TFLITE_BUILTINS
_INT8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def convert(built: Built, form: str) -> bytes:
    """The content of a .tflite file.

    Raises:
        Exception: whatever the converter does where it cannot.
    """
    if form.startswith("sparse"):
        _prune(built.owner)
    with tempfile.TemporaryDirectory() as folder:
        return _convert(built, form, _converter(built, folder))


def _convert(built: Built, form: str, converter: Any) -> bytes:
    if form == "select_tf":
        converter.target_spec.supported_ops = [_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    elif form == "custom":
        converter.allow_custom_ops = True
    elif form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    match form:
        case "float16":
            converter.target_spec.supported_types = [tf.float16]
        case "int8" | "uint8" | "int8_per_tensor":
            converter.representative_dataset = lambda: itertools.islice(_samples(built), built.samples)
            converter.target_spec.supported_ops = [_INT8]
            outside = tf.uint8 if form == "uint8" else tf.int8
            converter.inference_input_type = converter.inference_output_type = outside
            converter._experimental_disable_per_channel = form == "int8_per_tensor"
        case "int8_float":
            converter.representative_dataset = lambda: itertools.islice(_samples(built), built.samples)
        case "int16x8":
            converter.representative_dataset = lambda: itertools.islice(_samples(built), built.samples)
            converter.target_spec.supported_ops = [_INT16, _BUILTINS]
            converter.inference_input_type = converter.inference_output_type = tf.int16
        case "sparse" | "sparse_int8":
            converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
            if form == "sparse_int8":
                converter.optimizations.append(tf.lite.Optimize.DEFAULT)
                converter.representative_dataset = lambda: itertools.islice(_samples(built), built.samples)
        case "float32" | "dynamic" | "select_tf" | "custom":
            pass
        case _:
            raise ValueError(form)
    return bytes(converter.convert())


def _prune(model: Any) -> None:
    """Leave one of eight blocks of four weights in each matrix."""
    for weight in model.weights:
        values = np.asarray(weight)
        if values.ndim >= 2:
            rows = values.reshape(-1, values.shape[-1])
            kept = np.arange(rows.size // rows.shape[-1])[:, None] // 4 + np.arange(rows.shape[-1])
            weight.assign(np.where(kept % 8 == 0, rows, 0).reshape(values.shape).astype(values.dtype))


def _converter(built: Built, folder: str) -> Any:
    if isinstance(built.owner, tf.keras.Model):
        return tf.lite.TFLiteConverter.from_keras_model(built.owner)
    signatures = built.signatures
    if signatures is None:
        traced = tf.function(built.function, list(built.specs), autograph=built.is_stateful).get_concrete_function()
        signatures = {"serving_default": traced}
    holder = tf.Module()
    holder.owner, holder.calls = built.owner, list(signatures.values())
    tf.saved_model.save(holder, folder, signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
    converter.experimental_enable_resource_variables = built.is_stateful
    return converter


def _samples(built: Built) -> Iterator[dict[str, Any]]:
    for feeds in built.feeds:
        free = all(spec.shape.rank and spec.shape[0] is None for spec in built.specs)
        if not free:
            yield dict(feeds)
            continue
        for at in range(min(len(value) for value in feeds.values())):
            yield {name: np.ascontiguousarray(value[at : at + 1]) for name, value in feeds.items()}
