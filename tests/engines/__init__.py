"""A real engine from a wheel: llama.cpp's HTTP server with a tiny random model, for tests on any machine.

tiny_gguf         writes the model
llamacpp_server   the process: one server, its address on the first line of stdout
llamacpp          starts, stops and kills that process
"""
