import sys

from benchmarks.providers.cli import main

sys.exit(main())
