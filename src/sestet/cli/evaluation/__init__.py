"""What `sestet eval` does: tasks with answers that can be checked, requests, a file of results, and what follows."""
