"""What the tests of deploy/ need: programs that read its files, and the image without an engine."""
