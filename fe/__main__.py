"""`python -m fe` is `fe-serve`: see `fe.cli`.

Owns: nothing. Never: anything at import, so that a tool may import it.
"""

from fe.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
