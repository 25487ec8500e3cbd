"""What quantization costs trained models on real data: one task a module, each with a model, data and a metric."""
