"""Libraries of models for other processors: how large they are, how fast beside a session, and how soon they start."""
