"""What a notebook user finds as `spacex.<tab>`, and what the commands call: one function per thing to do."""
