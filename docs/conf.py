"""How Sphinx builds these pages: `make docs`. It needs no network."""

import os
import sys

sys.path.insert(0, os.path.abspath(".."))

from gossipmonger import __version__

project = "gossipmonger"
author = "the gossipmonger authors"
copyright = "2026, the gossipmonger authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"gossipmonger {release}"

# A name in backticks is a name in Python, and a link where it is described here.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True

myst_heading_anchors = 3
myst_enable_extensions = ["tasklist"]

# Examples have to print what they say they print, to the letter.
doctest_default_flags = 0
trim_doctest_flags = True
