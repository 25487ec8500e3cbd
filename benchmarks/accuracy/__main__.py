"""`python -m benchmarks.accuracy`."""

from benchmarks.accuracy.cli import main

raise SystemExit(main())
