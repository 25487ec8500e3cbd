"""Results kept between processes: checked files that may be thrown away at any time."""
