"""`python -m archfind`."""

from archfind.cli import main

raise SystemExit(main())
