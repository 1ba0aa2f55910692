"""`python -m fluxctx`: what the sweep timer runs, whatever the PATH is."""

from fluxctx.cli import main

if __name__ == "__main__":
    main()
