"""Models of training frameworks, each through the framework's own exporter to ONNX.

    torch.export's programs (.pt2)         torch.onnx
    Keras (.keras, .h5)                    Keras's own export, which uses tf2onnx
    TensorFlow SavedModels (folders)       tf2onnx
    scikit-learn (.pkl, .joblib)           skl2onnx, and only where the file is trusted: it holds code

Files are exported in a process of their own: a framework takes hundreds of megabytes and many threads, which the
process that runs the model shall not have, and what it prints or breaks stays there.  Objects that a program holds
already are exported where they are (`load_object`).

Nothing is imported here: a process that only loads ONNX shall not pay for exporters.
"""
