"""Control flow, variables, signatures, detection."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.tflite_trial.case import Built, Feeds, built, case, function, random_of

F, I = tf.float32, tf.int32  # noqa: E741


function("flow/cond", lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1), ((4, 6), F))
function("flow/cond_shapes", lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x[:2], lambda: x), ((4, 6), F))
function(
    "flow/cond_bool", lambda c, x: tf.cond(c, lambda: tf.nn.relu(x), lambda: tf.tanh(x)), ((), tf.bool), ((4, 6), F)
)
function(
    "flow/case",
    lambda i, x: tf.switch_case(i, [lambda: x, lambda: x * 2, lambda: x - 1]),
    ((), I),
    ((3,), F),
    low=0,
    high=2,
)
function(
    "flow/cond_nested",
    lambda x: tf.cond(x[0, 0] > 0, lambda: tf.cond(x[0, 1] > 0, lambda: x + 1, lambda: x + 2), lambda: x),
    ((4, 6), F),
)


@case("flow/while")
def counted() -> Built:
    def call(x: Any) -> Any:
        return tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, y * 1.5 + tf.cast(i, F)), (tf.constant(0), x))[1]

    return built("flow/while", call, ((4, 6), F))


@case("flow/while_data")
def data() -> Built:
    def call(x: Any) -> Any:
        return tf.while_loop(lambda y, n: tf.reduce_sum(y) < 100.0, lambda y, n: (y * 2, n + 1), (tf.abs(x) + 0.1, 0))

    return built("flow/while_data", call, ((4,), F))


@case("flow/while_nested")
def nested() -> Built:
    def inner(x: Any) -> Any:
        return tf.while_loop(lambda j, y: j < 3, lambda j, y: (j + 1, y + tf.sin(y)), (0, x))[1]

    def call(x: Any) -> Any:
        return tf.while_loop(
            lambda i, y: i < 4, lambda i, y: (i + 1, tf.cond(i % 2 == 0, lambda: inner(y), lambda: y - 1)), (0, x)
        )[1]

    return built("flow/while_nested", call, ((4,), F))


@case("flow/while_grows")
def grows() -> Built:
    def call(x: Any) -> Any:
        body = lambda i, y: (i + 1, tf.concat([y, y[-1:] * 2], 0))  # noqa: E731
        return tf.while_loop(
            lambda i, y: i < 3, body, (0, x), shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, 2]))
        )[1]

    return built("flow/while_grows", call, ((2, 2), F))


@case("flow/tensor_array")
def array() -> Built:
    def call(x: Any) -> Any:
        kept = tf.TensorArray(F, 5, element_shape=(6,))
        body = lambda i, t: (i + 1, t.write(i, x[i] * tf.cast(i, F)))  # noqa: E731
        return tf.while_loop(lambda i, t: i < 5, body, (0, kept))[1].stack()

    return built("flow/tensor_array", call, ((5, 6), F))


@case("flow/tensor_array_grows")
def growing() -> Built:
    def call(x: Any) -> Any:
        kept = tf.TensorArray(F, 0, dynamic_size=True, element_shape=(6,))
        body = lambda i, t: (i + 1, t.write(i, x[i] + 1.0))  # noqa: E731
        return tf.while_loop(lambda i, t: i < tf.shape(x)[0], body, (0, kept))[1].stack()

    return built("flow/tensor_array_grows", call, ((None, 6), F))


function("flow/map_fn", lambda x: tf.map_fn(lambda row: row * 2 + tf.reduce_sum(row), x), ((None, 6), F))
function("flow/scan", lambda x: tf.scan(lambda a, row: a * 0.5 + row, x), ((5, 6), F))
function("flow/foldl", lambda x: tf.foldl(lambda a, row: a * 0.5 + row, x), ((5, 6), F))
function("flow/vectorized_map", lambda x: tf.vectorized_map(lambda row: row * tf.reduce_max(row), x), ((5, 6), F))


class Counter(tf.Module):
    """A variable that each run adds to."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable([1.0, 2.0, 3.0], name="total")
        self.runs = tf.Variable(0, name="runs")

    def __call__(self, x: Any) -> Any:
        self.runs.assign_add(1)
        self.total.assign(self.total * 0.5 + x)
        return self.total + tf.cast(self.runs, F), self.runs.read_value()


@case("state/counter")
def counter() -> Built:
    owner = Counter()
    return built(
        "state/counter", owner, ((3,), F), owner=owner, is_stateful=True, feeds=[[np.ones(3) * k] for k in range(4)]
    )


class Ring(tf.Module):
    """The last frames of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = tf.Variable(tf.zeros((1, 4, 3)), name="frames")

    def __call__(self, x: Any) -> Any:
        self.frames.assign(tf.concat([self.frames[:, 1:], x], 1))
        return tf.reduce_mean(self.frames, 1)


@case("state/ring")
def ring() -> Built:
    owner = Ring()
    return built(
        "state/ring",
        owner,
        ((1, 1, 3), F),
        owner=owner,
        is_stateful=True,
        feeds=[[np.full((1, 1, 3), k)] for k in range(6)],
    )


class Conditional(tf.Module):
    """A variable that is written to in a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.best = tf.Variable([0.0], name="best")

    def __call__(self, x: Any) -> Any:
        if tf.reduce_all(x > self.best):
            self.best.assign(x)
        return self.best + 0.0


@case("state/branch")
def branch() -> Built:
    owner = Conditional()
    return built("state/branch", owner, ((1,), F), owner=owner, is_stateful=True, feeds=[[[k]] for k in (1, 3, 2, 5)])


class Trained(tf.Module):
    """A small network with the signatures of training on a device."""

    def __init__(self) -> None:
        super().__init__()
        random = random_of("trained")
        self.w = tf.Variable(random.normal(0, 0.3, (6, 4)).astype(np.float32), name="w")
        self.b = tf.Variable(tf.zeros(4), name="b")

    @tf.function(input_signature=[tf.TensorSpec((5, 6), F, name="x")])
    def infer(self, x: Any) -> dict[str, Any]:
        return {"output": tf.nn.softmax(tf.matmul(x, self.w) + self.b)}

    @tf.function(input_signature=[tf.TensorSpec((5, 6), F, name="x"), tf.TensorSpec((5, 4), F, name="y")])
    def train(self, x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            logits = tf.matmul(x, self.w) + self.b
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
        for variable, gradient in zip((self.w, self.b), tape.gradient(loss, (self.w, self.b)), strict=True):
            variable.assign_sub(0.5 * gradient)
        return {"loss": loss}


def _trained(key: str, feeds: list[Feeds]) -> Built:
    owner = Trained()
    calls = {name: getattr(owner, name).get_concrete_function() for name in ("infer", "train")}
    specs = [tf.TensorSpec(value.shape, value.dtype, name=name) for name, value in feeds[0].items()]
    return Built(calls[key], specs, feeds, owner, signatures=calls, is_stateful=True, signature=key)


@case("state/infer")
def infer() -> Built:
    random = random_of("infer")
    return _trained("infer", [{"x": random.normal(size=(5, 6)).astype(np.float32)} for _ in range(2)])


@case("state/train")
def train() -> Built:
    random = random_of("train")
    x, y = random.normal(size=(5, 6)).astype(np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    return _trained("train", [{"x": x, "y": y} for _ in range(4)])


@case("state/lookup")
def lookup() -> Built:
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant(["cat", "dog"]), tf.constant([3, 5], tf.int64))
    table = tf.lookup.StaticHashTable(keys, -1)
    owner = tf.Module()
    owner.table = table
    return built(
        "state/lookup", table.lookup, ((3,), tf.string), owner=owner, feeds=[[["dog", "cow", "cat"]]], is_stateful=True
    )


# Detection

ANCHORS, CLASSES = 60, 4


def detector(name: str, *, regular: bool) -> Built:
    """Boxes and scores of a small network, then TFLite_Detection_PostProcess."""
    random = random_of(name)
    anchors = np.concatenate([random.uniform(0.1, 0.9, (ANCHORS, 2)), random.uniform(0.1, 0.4, (ANCHORS, 2))], 1)
    boxes = tf.Variable(random.normal(0, 0.1, (48, ANCHORS * 4)).astype(np.float32))
    scores = tf.Variable(random.normal(0, 0.6, (48, ANCHORS * (CLASSES + 1))).astype(np.float32))
    implements = (
        f'name: "TFLite_Detection_PostProcess" attr {{ key: "max_detections" value {{ i: 10 }} }} '
        'attr { key: "max_classes_per_detection" value { i: 1 } } '
        f'attr {{ key: "detections_per_class" value {{ i: 20 }} }} '
        f'attr {{ key: "use_regular_nms" value {{ b: {str(regular).lower()} }} }} '
        'attr { key: "nms_score_threshold" value { f: 0.4 } } attr { key: "nms_iou_threshold" value { f: 0.5 } } '
        f'attr {{ key: "num_classes" value {{ i: {CLASSES} }} }} '
        'attr { key: "y_scale" value { f: 10.0 } } attr { key: "x_scale" value { f: 10.0 } } '
        'attr { key: "h_scale" value { f: 5.0 } } attr { key: "w_scale" value { f: 5.0 } }'
    )

    @tf.function(experimental_implements=implements)
    def post(b: Any, s: Any, a: Any) -> Any:
        ten = tf.zeros((1, 10))
        return (
            tf.zeros((1, 10, 4)) + 0 * tf.reduce_sum(b),
            ten + 0 * tf.reduce_sum(s),
            ten + 0 * tf.reduce_sum(a),
            tf.zeros((1,)),
        )

    def call(x: Any) -> Any:
        flat = tf.reshape(x, (1, 48))
        b = tf.reshape(tf.matmul(flat, boxes), (1, ANCHORS, 4))
        s = tf.sigmoid(tf.reshape(tf.matmul(flat, scores), (1, ANCHORS, CLASSES + 1)))
        return post(b, s, tf.constant(anchors, tf.float32))

    owner = tf.Module()
    owner.boxes, owner.scores = boxes, scores
    return built(name, call, ((1, 4, 4, 3), F), owner=owner)


case("detect/fast", ("custom",))(lambda: detector("detect/fast", regular=False))
case("detect/regular", ("custom",))(lambda: detector("detect/regular", regular=True))
