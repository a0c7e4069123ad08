"""The mathematics of RL post-training: pure functions of arrays that know no config.

Four log-probabilities of the drawn tokens are kept apart, all of softmax(logits / temperature) over the full
vocabulary:

    logprobs          p, the policy being trained; carries the gradient
    old_logprobs      o, the trainer's own values before the update, fixed for the batch
    sampler_logprobs  q, what the rollout engine reported
    ref_logprobs      f, the frozen reference policy

A sequence is a prompt and its completion. Index t of a row holds what concerns the prediction of token
t+1.
"""
