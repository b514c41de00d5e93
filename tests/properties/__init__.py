"""What holds for every input, tried with inputs that hypothesis makes up."""
