"""Where finished policies go: a folder.

Invariant: what is written was judged before; nothing here changes a text.
"""
