"""Contract checks: what every member of a family must do, for its tests and for yours."""
