"""What every engine must do, and what the process behind llamacpp must survive."""
