"""What families of operators have in common.  Nothing in here imports a family."""
