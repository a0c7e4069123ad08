"""What runs in the environments of the adapters' packages, as processes of their own: files that import this
library nowhere, since those environments do not have it. adapter_guard starts each."""
