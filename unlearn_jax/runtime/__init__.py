"""What a process needs and nothing of unlearning: hosts, signals, disks, archives, platforms."""
