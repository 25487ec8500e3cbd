"""What nodes and borders cost on the devices of this machine: rates, how they are measured and kept, and estimates."""
