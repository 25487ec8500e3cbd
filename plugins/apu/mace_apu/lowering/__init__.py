"""Translation of ONNX operators to Neuron's: `mace_apu.lowering.engine.lower` is the way in."""
