"""rlceiling: Bayesian ceilings for RL post-training."""

from importlib.metadata import version as _version

import lazy_loader

# Public names are listed in __init__.pyi and loaded when first used, so that reading a file does not wait for JAX.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = _version("rlceiling")
