"""The tests. `running` starts real servers; the folders say what is tested, their README what each holds."""
