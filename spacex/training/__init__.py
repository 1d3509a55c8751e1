"""Learning, in plain PyTorch: losses, presets, one learner per task, and runs that survive being killed.

Nothing here knows Ray: a run is a generator that yields one epoch at a time, and a :class:`Distributed` says
who else is computing. ``training/ray_train.py`` only starts the workers and iterates.
"""
