"""Speed of whole networks beside other programs: the same network, batch and threads, each in a process of its own.

``worker.py`` is that process; ``ours*.py``, ``torch_*.py`` and ``*_peer.py`` are what it runs.  These files are loaded by
path and import nothing of this package (``ours*.py`` excepted), so that a peer's memory and threads are its own.
"""
