"""Faults that are planted in right solutions, one class at a time, in every kernel of a file."""
import ast


class _Stores(ast.NodeTransformer):
    """Changes tl.store(pointer, value, ...) and atomic_add alike."""

    def __init__(self, change):
        self._change = change

    def visit_Call(self, node):
        self.generic_visit(node)
        name = getattr(node.func, "attr", "")
        return self._change(node) if name == "store" or name.startswith("atomic_") else node


def _expression(text, **names):
    """An expression with nodes in the place of names."""
    class Fill(ast.NodeTransformer):
        def visit_Name(self, node):
            return names.get(node.id, node)
    return Fill().visit(ast.parse(text, mode="eval").body)


def _wrong_value(call):
    call.args[1] = _expression("(VALUE) + 1", VALUE=call.args[1])
    return call


def _masked(text):
    def change(call):
        given = next((each for each in call.keywords if each.arg == "mask"), None)
        if given is None:
            call.keywords.append(ast.keyword("mask", _expression(f"{text} & (POINTER == POINTER)",
                                                                 POINTER=call.args[0])))
        else:
            given.value = _expression(f"(MASK) & {text}", MASK=given.value)
        return call
    return change


def _stored(change):
    return lambda tree: _Stores(change).visit(tree)


class _Forward(ast.NodeTransformer):
    def __init__(self, text):
        self._body = ast.parse(text).body

    def visit_ClassDef(self, node):
        for each in node.body:
            if node.name == "ModelNew" and isinstance(each, ast.FunctionDef) and each.name == "forward":
                each.body = [*self._body, *each.body]
        return node


FAULTS = {
    "a wrong value": _stored(_wrong_value),
    "nothing is stored": _stored(_masked("(tl.program_id(0) < 0)")),
    "an error": _Forward("raise ValueError('planted')").visit,
    "no kernel runs": _Forward("return torch.zeros(1)").visit,
}


def planted(source, fault):
    """The source with a fault of a class."""
    return ast.unparse(ast.fix_missing_locations(FAULTS[fault](ast.parse(source))))
