"""Something that `sample_kernels` says it depends on."""
