"""The networks that every provider of an accelerator has to run, each compared with the CPU provider."""
