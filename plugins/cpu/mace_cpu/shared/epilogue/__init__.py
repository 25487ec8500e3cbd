"""What is done to a result before it is stored."""
