"""How any tile job runs: queue, read-compute-write pipeline, driver, lock, progress; in this process or on Ray."""
