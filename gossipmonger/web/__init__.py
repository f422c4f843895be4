"""The page: the cluster as one node sees it, in a browser.

    from gossipmonger.web import serve

    page = serve(node, "127.0.0.1", 8042)
    print(page.url)
    ...
    page.close()

`gossipmonger agent --web 127.0.0.1:8042` does the same. It needs nothing but the standard library and a browser.
"""

from gossipmonger.web.board import Board
from gossipmonger.web.server import Page, serve

__all__ = ["Board", "Page", "serve"]
