"""Who runs the work: this process, or a Ray cluster. Only `ray_map` and `ray_train` know Ray."""
