"""The Reduce operators, ArgMax and ArgMin."""
