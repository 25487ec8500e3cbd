"""From a plan to results: feeds, the executor, and the runner that keeps a plan for each input signature."""
