"""Reinforcement-learning post-training of Mixture-of-Experts language models in JAX.

Array names end in their logical axes, one letter each:

    P prompts                 G completions per prompt     B = P*G sequences
    T tokens                  S key positions              M = B*T tokens, flattened
    D model width             N query heads                K key/value heads
    H head width              F (expert) hidden width      V vocabulary
    E experts                 A active experts per token   R = M*A routed rows
    L layers                  C capacity                   U decode slots

`logits_BTV` has axes (sequence, token, vocabulary). A module's docstring repeats only the letters it adds.
"""
__version__ = "0.1.0"
