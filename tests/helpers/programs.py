"""What a traced program holds, programs inside it included."""
import jax


def arrays_of(jaxpr):
    """Shape and dtype of every array that a step of it gives."""
    for equation in _equations(jaxpr):
        yield from (variable.aval for variable in equation.outvars)


def count_of(jaxpr, primitive):
    return sum(equation.primitive.name == primitive for equation in _equations(jaxpr))


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            inner = getattr(value, "jaxpr", value)
            yield from _equations(inner) if hasattr(inner, "eqns") else ()


def _is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
