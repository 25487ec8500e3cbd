"""DFT, STFT and MelWeightMatrix."""
