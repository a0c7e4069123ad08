"""Our adapters as other software reads them: see __main__.py. cases: which adapters; readers: who reads
them."""
