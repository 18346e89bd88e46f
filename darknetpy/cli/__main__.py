"""``python -m darknetpy.cli``: the command line."""
from darknetpy.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
