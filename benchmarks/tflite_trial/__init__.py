"""Models that TensorFlow's converter makes, in MACE and in LiteRT: see ``__main__``."""
