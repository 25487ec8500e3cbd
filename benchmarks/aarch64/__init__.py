"""How good the code for aarch64 is, without such a processor: instructions counted and cycles modelled."""
