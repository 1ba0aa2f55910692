"""fluxctx: private image and video generation on your own machine, with promises you can check."""

__version__ = "0.1.0"
