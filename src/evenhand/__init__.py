"""Evenhand finds the patients whom a medical model fails, and repairs the model.

Names load on first use: importing the package imports neither torch nor pandas. The stub
``__init__.pyi`` lists every public name.
"""

import lazy_loader

from evenhand.networks.torchvision_guard import install_torchvision_guard

install_torchvision_guard()
del install_torchvision_guard

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
