"""MediaTek's Neuron Adapter: its constants, and (`library`, `handles`) its functions."""
