"""One file for each method, named as in its paper."""
