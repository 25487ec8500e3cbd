"""What programs are put together from: facts about values, buffers, steps, constants."""
