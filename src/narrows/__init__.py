"""narrows fits deep networks into small devices and through thin links."""

from typing import Final

__version__: Final = "0.1.0"
