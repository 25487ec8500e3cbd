"""Files as input tensors: arrays of numpy, archives of them, pictures.

What the command line's options mean is the command line's business.
"""
