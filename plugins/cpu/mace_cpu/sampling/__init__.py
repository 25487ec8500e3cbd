"""GridSample, RoiAlign, DeformConv, Col2Im and MaxUnpool."""
