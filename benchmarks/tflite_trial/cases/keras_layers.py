"""Keras layers one by one: normalization, attention, shapes, activations, preprocessing."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.tflite_trial.case import ACTIVATIONS, ALL, FLOAT, WEIGHTS, Built, built, case, keras, layer

K = tf.keras.layers
IMAGE = (12, 10, 6)

# Normalization
layer("norm/batch", K.BatchNormalization, IMAGE, forms=ACTIVATIONS)
layer("norm/batch_plain", lambda: K.BatchNormalization(scale=False, center=False), (7,), forms=ACTIVATIONS)
layer("norm/batch_axis", lambda: K.BatchNormalization(axis=1), (4, 5, 3))
layer("norm/layer", K.LayerNormalization, (9, 16), forms=ACTIVATIONS)
layer("norm/layer_axes", lambda: K.LayerNormalization(axis=(1, 2)), (9, 16))
layer("norm/layer_image", K.LayerNormalization, IMAGE, forms=ACTIVATIONS)
layer("norm/rms", K.RMSNormalization, (9, 16), forms=ACTIVATIONS)
layer("norm/group", lambda: K.GroupNormalization(groups=3), IMAGE, forms=ACTIVATIONS)
layer("norm/instance", lambda: K.GroupNormalization(groups=-1), IMAGE)
layer("norm/group_free", lambda: K.GroupNormalization(groups=3), (None, None, 6), batches=(3, 5))
layer("norm/unit", K.UnitNormalization, (9, 16), forms=ACTIVATIONS)
layer("norm/spectral", lambda: K.SpectralNormalization(K.Dense(4)), (9,))

# Dense
layer("dense/dense", lambda: K.Dense(11, activation="relu"), (9,), forms=ALL)
layer("dense/rank3", lambda: K.Dense(11), (4, 9), forms=ALL)
layer("dense/rank4", lambda: K.Dense(11, activation="sigmoid"), IMAGE, forms=WEIGHTS)
layer("dense/no_bias", lambda: K.Dense(5, use_bias=False), (9,), forms=WEIGHTS)
layer("dense/large", lambda: K.Dense(256), (512,), forms=ALL)
layer(
    "dense/einsum", lambda: K.EinsumDense("abc,cd->abd", output_shape=(None, 7), bias_axes="d"), (4, 9), forms=WEIGHTS
)
layer("dense/einsum_heads", lambda: K.EinsumDense("abc,cde->abde", output_shape=(None, 2, 5)), (4, 9), forms=WEIGHTS)
layer("dense/einsum_joined", lambda: K.EinsumDense("abcd,cde->abe", output_shape=(None, 8)), (4, 3, 5))
layer("dense/einsum_swapped", lambda: K.EinsumDense("abc,bd->acd", output_shape=(9, 6)), (4, 9))
layer(
    "dense/embedding",
    lambda: K.Embedding(20, 6),
    (5,),
    dtype=tf.int32,
    low=0,
    high=19,
    forms=(*FLOAT, "float16", "dynamic", "int8_float"),
)
layer("dense/dot", lambda: K.Dot(axes=1), (9,), (9,), forms=FLOAT)
layer("dense/dot_3d", lambda: K.Dot(axes=(2, 1)), (4, 5), (5, 6), forms=(*FLOAT, "int8"))
layer("dense/dot_cosine", lambda: K.Dot(axes=-1, normalize=True), (4, 9), (3, 9))

# Attention
for masked in (False, True):
    tail = "_causal" if masked else ""

    def attention(masked: bool = masked) -> Built:
        tf.keras.utils.set_random_seed(3)
        made = K.MultiHeadAttention(3, 8)
        call = lambda x: made(x, x, use_causal_mask=masked)  # noqa: E731
        return keras(f"attention/heads{masked}", call, ((None, 6, 16), tf.float32))

    case(f"attention/heads{tail}", WEIGHTS)(attention)
layer("attention/plain", lambda: K.Attention(use_scale=True), (5, 8), (6, 8), forms=(*FLOAT, "int8"))
layer("attention/additive", K.AdditiveAttention, (5, 8), (6, 8))
layer("attention/grouped", lambda: K.GroupedQueryAttention(8, 4, 2), (6, 16), (6, 16))

# Joins
for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
    layer(f"join/{kind}", getattr(K, kind), IMAGE, IMAGE, forms=(*ACTIVATIONS, "uint8"))
layer("join/Concatenate", K.Concatenate, IMAGE, IMAGE, forms=ACTIVATIONS)
layer("join/Concatenate_axis", lambda: K.Concatenate(axis=1), (3, 4), (5, 4), forms=ACTIVATIONS)
layer("join/Add_broadcast", K.Add, IMAGE, (1, 1, 6), forms=ACTIVATIONS)

# Shapes
layer("shape/flatten", K.Flatten, IMAGE, forms=ACTIVATIONS)
layer("shape/reshape", lambda: K.Reshape((5, -1)), IMAGE, forms=ACTIVATIONS)
layer("shape/permute", lambda: K.Permute((2, 3, 1)), IMAGE, forms=ACTIVATIONS)
layer("shape/repeat", lambda: K.RepeatVector(3), (7,), forms=ACTIVATIONS)
layer("shape/up_nearest", lambda: K.UpSampling2D(2), IMAGE, forms=ACTIVATIONS)
layer("shape/up_bilinear", lambda: K.UpSampling2D((2, 3), interpolation="bilinear"), IMAGE, forms=ACTIVATIONS)
layer("shape/up_bicubic", lambda: K.UpSampling2D(2, interpolation="bicubic"), IMAGE)
layer("shape/up_free", lambda: K.UpSampling2D(2, interpolation="bilinear"), (None, None, 3), batches=(4, 7))
layer("shape/up_1d", lambda: K.UpSampling1D(3), (7, 4), forms=ACTIVATIONS)
layer("shape/up_3d", lambda: K.UpSampling3D(2), (2, 3, 4, 3))
layer("shape/zero_1d", lambda: K.ZeroPadding1D((1, 2)), (7, 4), forms=ACTIVATIONS)
layer("shape/zero_2d", lambda: K.ZeroPadding2D(((1, 0), (2, 3))), IMAGE, forms=(*ACTIVATIONS, "uint8"))
layer("shape/zero_3d", lambda: K.ZeroPadding3D(1), (2, 3, 4, 3))
layer("shape/crop_1d", lambda: K.Cropping1D(1), (7, 4), forms=ACTIVATIONS)
layer("shape/crop_2d", lambda: K.Cropping2D(((1, 2), (0, 3))), IMAGE, forms=ACTIVATIONS)
layer("shape/crop_3d", lambda: K.Cropping3D(1), (3, 4, 5, 3))
for how in ("nearest", "bilinear", "bicubic", "lanczos3", "area"):
    layer(f"shape/resizing_{how}", lambda h=how: K.Resizing(7, 15, interpolation=h), IMAGE)
layer("shape/resizing_cropped", lambda: K.Resizing(7, 15, crop_to_aspect_ratio=True), IMAGE)
layer("shape/resizing_padded", lambda: K.Resizing(7, 15, pad_to_aspect_ratio=True), IMAGE)
layer("shape/center_crop", lambda: K.CenterCrop(6, 5), IMAGE, forms=ACTIVATIONS)
layer("shape/center_crop_larger", lambda: K.CenterCrop(20, 21), IMAGE)
layer("shape/masking", lambda: K.Masking(0.0), (5, 4))

# Activations
for name in (
    *("relu", "relu6", "elu", "selu", "softplus", "softsign", "sigmoid", "tanh", "exponential", "hard_sigmoid"),
    *("hard_silu", "silu", "gelu", "mish", "log_softmax", "softmax", "leaky_relu", "linear", "celu", "glu"),
    *("hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid", "squareplus", "threshold"),
    *("sparse_plus", "sparse_sigmoid", "sparsemax"),
):
    if hasattr(tf.keras.activations, name):
        layer(f"activation/{name}", lambda n=name: K.Activation(n), (4, 16), low=-5, high=5, forms=ACTIVATIONS)
layer(
    "activation/relu_bounded", lambda: K.ReLU(max_value=3.5, negative_slope=0.1, threshold=0.5), (4, 16), low=-5, high=5
)
layer("activation/prelu", K.PReLU, (4, 6), forms=ACTIVATIONS)
layer("activation/prelu_image", lambda: K.PReLU(shared_axes=[1, 2]), IMAGE, forms=ACTIVATIONS)
layer("activation/softmax_axis", lambda: K.Softmax(axis=1), IMAGE, forms=ACTIVATIONS)
layer("activation/softmax_axes", lambda: K.Softmax(axis=(1, 2)), IMAGE)
layer(
    "activation/gelu_tanh",
    lambda: K.Lambda(lambda x: tf.nn.gelu(x, approximate=True)),
    (4, 16),
    low=-5,
    high=5,
    forms=ACTIVATIONS,
)

# Preprocessing
layer("input/rescaling", lambda: K.Rescaling(1 / 127.5, offset=-1), IMAGE, low=0, high=255, forms=ACTIVATIONS)
layer("input/normalization", lambda: K.Normalization(mean=[1, 2, 3, 4, 5, 6.0], variance=[1, 2, 3, 4, 5, 6.0]), IMAGE)
layer("input/discretization", lambda: K.Discretization([-1.0, 0.0, 0.7, 1.5]), (9,))
layer("input/discretization_hot", lambda: K.Discretization([-1.0, 0.0, 1.5], output_mode="one_hot"), (1,))
layer("input/discretization_many", lambda: K.Discretization([-1.0, 0.0, 1.5], output_mode="multi_hot"), (7,))
for mode in ("one_hot", "multi_hot", "count"):
    layer(
        f"input/category_{mode}",
        lambda m=mode: K.CategoryEncoding(6, output_mode=m),
        (1 if mode == "one_hot" else 4,),
        dtype=tf.int32,
        low=0,
        high=5,
    )
layer("input/integer_lookup", lambda: K.IntegerLookup(vocabulary=[3, 5, 9, 100]), (4,), dtype=tf.int64, low=0, high=10)
layer("input/hashing", lambda: K.Hashing(num_bins=7), (4,), dtype=tf.int64, low=0, high=1000)
layer("input/hashed_crossing", lambda: K.HashedCrossing(num_bins=7), (1,), (1,), dtype=tf.int64, low=0, high=1000)
layer("input/stft", lambda: K.STFTSpectrogram(mode="log", frame_length=64, frame_step=32, fft_length=64), (512, 1))
layer(
    "input/stft_phase",
    lambda: K.STFTSpectrogram(mode="magnitude", frame_length=64, frame_step=16, fft_length=128),
    (512, 1),
)
layer(
    "input/mel",
    lambda: K.MelSpectrogram(fft_length=128, sequence_stride=64, num_mel_bins=20, max_freq=4000, sampling_rate=8000),
    (1024,),
)
RANDOM = {
    "RandomFlip": {},
    "RandomRotation": {"factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "RandomContrast": {"factor": 0.1},
    "RandomBrightness": {"factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomCrop": {"height": 6, "width": 5},
    "Dropout": {"rate": 0.5},
    "GaussianNoise": {"stddev": 0.5},
    "SpatialDropout2D": {"rate": 0.5},
}
for kind, given in RANDOM.items():
    layer(f"input/{kind}", lambda k=kind, g=given: K.__dict__[k](**g), IMAGE)


@case("input/numpy_constant")
def constant() -> Built:
    table = tf.constant(np.arange(12, dtype=np.float32).reshape(3, 4))
    return built("input/numpy_constant", lambda: tf.reduce_sum(table, 1), feeds=[[]])
