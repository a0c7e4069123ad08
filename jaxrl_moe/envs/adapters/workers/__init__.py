"""What the workers of the adapters' packages run: files that import this library nowhere, since the
environments of those packages do not have it.

Of an episode `reset` tells {"observation": [texts]}, and `step` {"observation": [texts], "reward": number,
"done": boolean, "truncated": boolean, "valid": boolean, "info": {name: number}, "notes": {name: text}}, where
all but reward and done may be left out.
"""
