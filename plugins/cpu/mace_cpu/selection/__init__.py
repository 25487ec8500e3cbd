"""TopK, NonZero, NonMaxSuppression and Unique."""
