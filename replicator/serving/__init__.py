"""Giving a file to a browser: which file it is, where its bytes are, and how they get there.

``places`` finds the file that a key names, ``sources`` where it can be had, ``answers`` sends it, or lets the server
in front send it (``handover``). Whether it may be read is decided in between, by the view.
"""
