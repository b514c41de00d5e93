"""llama.cpp's own server, from the `xllamacpp` wheel, in a child process that nobody but us can reach."""
