"""What populations score: figures of a level, the battery of metrics, and the populations' views."""
