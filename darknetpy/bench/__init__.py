"""Speed of whole networks beside other programs: the same network, batch and threads, each in a process of its own.

``worker.py`` is that process; ``ours.py``, ``torch_peer.py`` and ``darknet_peer.py`` are what it runs.  These four files
are loaded by path and import nothing of this package (``ours.py`` excepted), so that a peer's memory and threads are its own.
"""
