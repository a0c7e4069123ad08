"""The in-process engine: continuous batching over a paged KV pool, on the arrays that are trained."""
