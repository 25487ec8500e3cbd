"""`python -m benchmarks.shapes`."""

from benchmarks.shapes.cli import main

raise SystemExit(main())
