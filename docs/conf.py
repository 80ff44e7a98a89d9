"""How `make docs` builds the pages: Sphinx reads Markdown (MyST), docstrings, and the commands' own help."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version as installed_version

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "s2search"
author = "the s2search contributors"
copyright = author
version = release = installed_version("s2search")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # a link to a heading of another page works here as it does on GitHub
suppress_warnings = ["myst.header"]

nitpicky = True
# Types in signatures belong to Python, numpy, torch and rooms below the face: none of them has a page here.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

highlight_language = "none"  # a block without a language is what a command printed

html_theme = "furo"
html_title = "s2search"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False


class CommandHelp(SphinxDirective):
    """A command's options as its own `--help` prints them, so that no page falls behind the command."""

    required_arguments = 1
    optional_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Run the command's help, 80 columns wide."""
        words = [sys.executable, "-m", "s2search", *self.arguments, "--help"]
        done = subprocess.run(words, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True)
        return [nodes.literal_block(done.stdout, done.stdout, language="text")]


def setup(app: Sphinx) -> None:
    """Offer the directive to pages."""
    app.add_directive("command-help", CommandHelp)
