"""Where finished policies go: a folder, later a repository.

Invariant: what is written was judged before; nothing here changes a text.
"""
