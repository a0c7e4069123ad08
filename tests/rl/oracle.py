"""The algorithms once more, slowly: plain Python loops over sequences and tokens, written from the papers'
formulas.

A sequence is a dict of equally long lists p, o, q, f (log-probs), m (mask), A (advantages), H (entropies),
and a number `group`. `held` is the list of p at which factors without gradient are taken: pass the same p for
values, and keep it fixed while p is moved for finite differences.
"""
import math


def clamp(x, limit=20.0):
    return max(-limit, min(limit, x))


def tokens(seq):
    return [t for t in range(len(seq["m"])) if seq["m"][t]]


def mean_over(seq, f):
    inside = tokens(seq)
    return sum(f(t) for t in inside) / len(inside) if inside else 0.0


def clipped(A, r, low, high):
    inside = min(max(r, 1 - low), 1 + high)
    return max(-A * r, -A * inside)


def policy_loss(name, seq, held, s):
    """Token losses l_t of one sequence; s is a dict of settings."""
    p = seq["p"]
    o = seq["o"]
    q = seq["q"]
    A = seq["A"]
    losses = []
    for t in range(len(p)):
        r = math.exp(clamp(p[t] - o[t]))
        r0 = math.exp(clamp(held[t] - o[t]))
        if name == "clipped_surrogate":
            loss = clipped(A[t], r, s["clip_low"], s["clip_high"])
        elif name == "dual_clip":
            loss = clipped(A[t], r, s["clip_low"], s["clip_high"])
            if A[t] < 0:
                loss = min(loss, -s["dual_clip"] * A[t])
        elif name == "gspo":
            sequence_ratio = math.exp(clamp(mean_over(seq, lambda k: p[k] - o[k])))
            loss = clipped(A[t], sequence_ratio, s["clip_low"], s["clip_high"])
        elif name == "gspo_token":
            log_s = mean_over(seq, lambda k: held[k] - o[k])
            loss = clipped(A[t], math.exp(min(p[t] - held[t] + log_s, 10)), s["clip_low"], s["clip_high"])
        elif name == "cispo":
            loss = -min(max(r0, s["ratio_low"]), s["ratio_high"]) * A[t] * p[t]
        elif name == "sapo":
            tau = s["tau_positive"] if A[t] > 0 else s["tau_negative"]
            loss = -A[t] / (1 + math.exp(-tau * (r - 1))) * 4 / tau
        elif name == "dppo_tv":
            moved = math.exp(held[t]) - math.exp(q[t])
            bad = (A[t] > 0 and moved > s["divergence"]) or (A[t] < 0 and moved < -s["divergence"])
            loss = 0.0 if bad else -min(math.exp(clamp(held[t] - q[t])), s["ratio_cap"]) * A[t] * p[t]
        elif name == "reinforce":
            loss = -A[t] * p[t]
        else:
            raise NotImplementedError(f"There is no formula of the loss {name!r} here: add it to policy_loss "
                                      "in tests/rl/oracle.py, written from its paper.")
        losses.append(loss)
    return losses


def kl(estimator, p, f, held):
    d = clamp(p - f)
    d0 = clamp(held - f)

    def k2(x):
        return x * x / 2

    def k3(x):
        return clamp(math.exp(-x) - 1 + x, 10)

    return {"k1": d, "k2": k2(d), "k3": k3(d), "abs": abs(d), "k3+": k2(d) - k2(d0) + k3(d0)}[estimator]


def correction(name, seq, held, s):
    """The factor of each token of one sequence."""
    o = seq["o"]
    q = seq["q"]
    A = seq["A"]
    rho = [math.exp(clamp(o[t] - q[t])) for t in range(len(o))]
    log_product = sum(o[t] - q[t] for t in tokens(seq))
    product = math.exp(clamp(log_product))
    geometric = math.exp(clamp(log_product / max(len(tokens(seq)), 1)))
    drift = mean_over(seq, lambda t: q[t] - held[t])
    vetoed = any(rho[t] < s.get("floor", 0) for t in tokens(seq))

    def inside(x):
        return s["low"] <= x <= s["high"]

    def factor(t):
        whole = {
            "tis_sequence": lambda: min(product, s["cap"]),
            "mis_sequence": lambda: float(inside(product)),
            "mis_geometric": lambda: float(inside(geometric)),
            "veto": lambda: 0.0 if vetoed else 1.0
        }
        single = {"tis": lambda: min(rho[t], s["cap"]), "icepop": lambda: rho[t] if inside(rho[t]) else 0.0,
                  "mis_token": lambda: float(inside(rho[t])),
                  "opsm": lambda: 0.0 if A[t] < 0 and drift > s["drift"] else 1.0}
        return (whole | single)[name]()

    return [factor(t) for t in range(len(o))]


def aggregate(values, seqs, mode, norm=0):
    """One number from token values, a list per sequence."""
    full = [i for i, seq in enumerate(seqs) if tokens(seq)]
    sums = {i: sum(values[i][t] for t in tokens(seqs[i])) for i in full}
    counts = {i: len(tokens(seqs[i])) for i in full}
    if mode == "token-mean":
        return sum(sums.values()) / sum(counts.values())
    if mode == "seq-mean-token-mean":
        return sum(sums[i] / counts[i] for i in full) / len(full)
    if mode == "seq-mean-token-sum":
        return sum(sums.values()) / len(full)
    if mode == "seq-mean-token-sum-norm":
        return sum(sums.values()) / len(full) / norm
    prompts = sorted({seqs[i]["group"] for i in full})
    total = 0.0
    for prompt in prompts:
        inside = [i for i in full if seqs[i]["group"] == prompt]
        total += sum(sums[i] for i in inside) / sum(counts[i] for i in inside)
    return total / len(prompts)


def objective(seqs, helds, loss, s, mode, norm=0, corrections=(), kl_coef=0.0, estimator="k3",
              entropy_coef=0.0):
    values = []
    for seq, held in zip(seqs, helds):
        losses = policy_loss(loss, seq, held, s)
        factors = [1.0] * len(losses)
        for name, settings in corrections:
            factors = [a * b for a, b in zip(factors, correction(name, seq, held, settings))]
        kls = [kl(estimator, seq["p"][t], seq["f"][t], held[t]) for t in range(len(losses))]
        values.append([
            factors[t] * losses[t] + kl_coef * kls[t] - entropy_coef * seq["H"][t] for t in range(len(losses))
        ])
    return aggregate(values, seqs, mode, norm)


def mismatch(seqs):
    pairs = [(seq["o"][t], seq["q"][t]) for seq in seqs for t in tokens(seq)]
    n = len(pairs)
    logs = [clamp(o - q) for o, q in pairs]
    k3s = [math.exp(d) - 1 - d for d in logs]
    rho = [math.exp(d) for d in logs]
    x = [math.exp(o) for o, _ in pairs]
    y = [math.exp(q) for _, q in pairs]
    mean_x = sum(x) / n
    mean_y = sum(y) / n
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    spread = math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    gaps = [abs(a - b) for a, b in zip(x, y)]
    return {"mismatch/kl": sum(k3s) / n, "mismatch/kl_max": max(k3s), "mismatch/k1": -sum(logs) / n,
            "mismatch/k1_max": max(-d for d in logs), "mismatch/prob_diff_mean": sum(gaps) / n,
            "mismatch/prob_diff_max": max(gaps), "mismatch/pearson": covariance / spread,
            "mismatch/ess": sum(rho) ** 2 / (n * sum(r * r for r in rho))}


def advantages(name, groups):
    """Scalars of each group, before REINFORCE++'s whitening."""
    result = []
    for rewards in groups:
        size = len(rewards)
        mean = sum(rewards) / len(rewards)
        same = max(rewards) == min(rewards)
        variance = sum((r - mean) ** 2 for r in rewards) / (size - 1) if size > 1 else 0.0
        row = []
        for i, r in enumerate(rewards):
            others = [x for k, x in enumerate(rewards) if k != i]
            if name in ("reinforce_pp", "gae") or (name in ("reinforce", "last_token_critic") and size == 1):
                row.append(r)
            elif same:
                row.append(0.0)
            elif name == "grpo":
                row.append((r - mean) / (math.sqrt(variance) + 1e-6))
            elif name in ("rloo", "turn_rloo"):
                row.append(r - sum(others) / len(others))
            elif name == "maxrl":
                row.append((r - mean) / (mean + 1e-6))
            else:
                row.append(r - mean)
        result.append(row)
    return result


def returns(rewards, mask, gamma):
    """sum over trained k >= t of gamma^(trained tokens from t to k) R_k, at trained t."""
    inside = [t for t in range(len(mask)) if mask[t]]
    result = {}
    for i, t in enumerate(inside):
        result[t] = sum(gamma ** (j - i) * rewards[k] for j, k in enumerate(inside) if j >= i)
    return result


def gae(rewards, values, mask, gamma, lam, bootstrap):
    """A_t = sum over later trained tokens of (gamma lambda)^distance delta, at trained t."""
    inside = [t for t in range(len(mask)) if mask[t]]
    following = [values[t] for t in inside[1:]] + [bootstrap]
    deltas = [rewards[t] + gamma * following[i] - values[t] for i, t in enumerate(inside)]
    return {
        t: sum((gamma * lam)**(j - i) * deltas[j] for j in range(i, len(inside)))
        for i, t in enumerate(inside)
    }


def whiten(values):
    n = len(values)
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    return [(v - mean) / math.sqrt(variance + 1e-8) for v in values]
