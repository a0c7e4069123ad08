"""Selecting rows with a gradient that is again a selection: scatters are slow on every backend."""
import jax


@jax.custom_vjp
def select(x_MD, index_R, inverse_M):
    """x[index], zeros where index is out of range. `inverse` says where each row of x went, out of range if nowhere.

    index must not name a row twice; under that condition the gradient of a selection is the selection by the inverse.
    """
    return _take(x_MD, index_R)


def _take(x, index):
    return x.at[index].get(mode="fill", fill_value=0)


select.defvjp(lambda x, index, inverse: (_take(x, index), inverse), lambda inverse, g: (_take(g, inverse), None, None))


@jax.custom_vjp
def spread(x_MD, token_R, inverse_R):
    """x[token] where every row is named R / M times: routed copies. The gradient gathers the copies and adds them.

    `inverse` lists, for token 0's copies, then token 1's, and so on, where each stands in the result.
    """
    return x_MD[token_R]


def _spread_back(saved, gradient_RD):
    tokens, inverse_R = saved
    return gradient_RD[inverse_R].reshape(tokens.shape[0], -1, gradient_RD.shape[1]).sum(axis=1), None, None


# The empty [M, 0] array carries the number of tokens to the backward pass.
spread.defvjp(lambda x, token, inverse: (x[token], (x[:, :0], inverse)), _spread_back)
