"""`gankiln ui`: the queue, its runs and studies as web pages. Reads only; works without JavaScript.

`pages.py` says what each page shows, `server.py` serves them, the templates say how they look.
"""

from service.ui.pages import Pages
from service.ui.server import PageServer

__all__ = ["PageServer", "Pages"]
