"""Ways to find accesses to memory that nobody may touch, for tests."""
