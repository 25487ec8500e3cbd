"""Convolutions and poolings of Keras, in all their forms."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.tflite_trial.case import ACTIVATIONS, ALL, FLOAT, WEIGHTS, layer

K = tf.keras.layers
IMAGE = (12, 10, 6)

layer("conv/conv1d", lambda: K.Conv1D(8, 3, padding="same", activation="relu"), (20, 5), forms=WEIGHTS)
layer("conv/conv1d_causal", lambda: K.Conv1D(8, 3, padding="causal", dilation_rate=2), (20, 5), forms=WEIGHTS)
layer("conv/conv1d_stride", lambda: K.Conv1D(8, 4, strides=2), (21, 5), forms=WEIGHTS)
layer("conv/conv1d_free", lambda: K.Conv1D(8, 3, padding="same"), (None, 5), batches=(3, 9))
layer("conv/conv2d_same", lambda: K.Conv2D(8, 3, padding="same", activation="relu6"), IMAGE, forms=ALL)
layer("conv/conv2d_valid", lambda: K.Conv2D(8, (3, 2), activation="tanh"), IMAGE, forms=WEIGHTS)
layer("conv/conv2d_stride", lambda: K.Conv2D(16, 3, strides=2, padding="same", use_bias=False), IMAGE, forms=ALL)
layer("conv/conv2d_stride_uneven", lambda: K.Conv2D(7, 5, strides=(3, 2), padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/conv2d_dilated", lambda: K.Conv2D(8, 3, dilation_rate=(2, 3), padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/conv2d_dilated_valid", lambda: K.Conv2D(8, 3, dilation_rate=2), IMAGE, forms=WEIGHTS)
layer("conv/conv2d_groups", lambda: K.Conv2D(12, 3, groups=3, padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/conv2d_pointwise", lambda: K.Conv2D(24, 1, activation="elu"), IMAGE, forms=ALL)
layer("conv/conv2d_free", lambda: K.Conv2D(8, 3, strides=2, padding="same"), (None, None, 3), batches=(8, 13))
layer("conv/conv2d_one_channel", lambda: K.Conv2D(1, 3, padding="same"), (9, 9, 1), forms=WEIGHTS)
layer("conv/conv2d_channels_first", lambda: K.Conv2D(4, 3, data_format="channels_first"), (3, 9, 9))
layer("conv/conv3d", lambda: K.Conv3D(6, 3, padding="same", activation="relu"), (5, 6, 7, 3), forms=WEIGHTS)
layer("conv/conv3d_stride", lambda: K.Conv3D(6, (2, 3, 2), strides=(1, 2, 2)), (5, 6, 7, 3))
layer("conv/depthwise", lambda: K.DepthwiseConv2D(3, padding="same", activation="relu6"), IMAGE, forms=ALL)
layer("conv/depthwise_multiplier", lambda: K.DepthwiseConv2D(3, depth_multiplier=2), IMAGE, forms=WEIGHTS)
layer("conv/depthwise_stride", lambda: K.DepthwiseConv2D(5, strides=2, padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/depthwise_dilated", lambda: K.DepthwiseConv2D(3, dilation_rate=2, padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/depthwise_1d", lambda: K.DepthwiseConv1D(3, padding="same"), (20, 5), forms=WEIGHTS)
layer("conv/separable", lambda: K.SeparableConv2D(10, 3, padding="same", activation="selu"), IMAGE, forms=WEIGHTS)
layer("conv/separable_1d", lambda: K.SeparableConv1D(10, 3, padding="same", depth_multiplier=2), (20, 5), forms=WEIGHTS)
layer("conv/transposed_1d", lambda: K.Conv1DTranspose(6, 3, strides=2, padding="same"), (9, 5), forms=WEIGHTS)
layer("conv/transposed", lambda: K.Conv2DTranspose(6, 3, strides=2, padding="same"), IMAGE, forms=ALL)
layer("conv/transposed_valid", lambda: K.Conv2DTranspose(6, 4, strides=(2, 3), activation="relu"), IMAGE, forms=WEIGHTS)
layer("conv/transposed_extra", lambda: K.Conv2DTranspose(6, 3, strides=2, output_padding=1), IMAGE, forms=FLOAT)
layer("conv/transposed_wide", lambda: K.Conv2DTranspose(6, 2, strides=3, padding="same"), IMAGE, forms=WEIGHTS)
layer("conv/transposed_free", lambda: K.Conv2DTranspose(4, 3, strides=2), (None, None, 3), batches=(5, 8))
layer(
    "conv/transposed_free_same",
    lambda: K.Conv2DTranspose(4, 3, strides=2, padding="same"),
    (None, None, 3),
    batches=(5, 8),
)
layer("conv/transposed_3d", lambda: K.Conv3DTranspose(4, 3, strides=2, padding="same"), (3, 4, 5, 3), forms=WEIGHTS)

layer("sparse/dense", lambda: K.Dense(64, activation="relu"), (128,), forms=("sparse", "sparse_int8"))
layer("sparse/conv", lambda: K.Conv2D(32, 3, padding="same"), (9, 9, 32), forms=("sparse", "sparse_int8"))
layer("sparse/pointwise", lambda: K.Conv2D(32, 1), (9, 9, 64), forms=("sparse", "sparse_int8"))
layer("sparse/depthwise", lambda: K.DepthwiseConv2D(3), (9, 9, 32), forms=("sparse",))

for kind in ("Max", "Average"):
    pool2d, pool1d, pool3d = (getattr(K, f"{kind}Pooling{rank}D") for rank in (2, 1, 3))
    layer(f"pool/{kind}_2d", lambda p=pool2d: p(2), IMAGE, forms=ACTIVATIONS)
    layer(
        f"pool/{kind}_2d_same", lambda p=pool2d: p(3, strides=2, padding="same"), IMAGE, forms=(*ACTIVATIONS, "uint8")
    )
    layer(f"pool/{kind}_2d_one", lambda p=pool2d: p((3, 2), strides=1, padding="same"), IMAGE, forms=ACTIVATIONS)
    layer(f"pool/{kind}_1d", lambda p=pool1d: p(3, strides=2, padding="same"), (20, 5), forms=ACTIVATIONS)
    layer(f"pool/{kind}_3d", lambda p=pool3d: p(2), (5, 6, 7, 3))
    layer(f"pool/{kind}_free", lambda p=pool2d: p(2, padding="same"), (None, None, 3), batches=(5, 8))
    for rank, shape in ((1, (20, 5)), (2, IMAGE), (3, (5, 6, 7, 3))):
        whole = getattr(K, f"Global{kind}Pooling{rank}D")
        layer(f"pool/Global{kind}_{rank}d", lambda p=whole: p(), shape, forms=ACTIVATIONS)
        layer(f"pool/Global{kind}_{rank}d_kept", lambda p=whole: p(keepdims=True), shape)
for size in (1, 2, 5):
    layer(f"pool/adaptive_average_{size}", lambda s=size: K.AdaptiveAveragePooling2D(s), IMAGE)
    layer(f"pool/adaptive_max_{size}", lambda s=size: K.AdaptiveMaxPooling2D(s), IMAGE)
