"""A reduced grammar of kernels: a policy chooses what a template is filled with, and the whole source is
judged."""
