"""What populations score: figures of a level, the table of metrics, and the populations' views."""
