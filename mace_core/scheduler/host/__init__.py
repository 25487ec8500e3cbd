"""What the core runs itself, on the host: control flow, sequences, labels, single operators, the reference provider."""
