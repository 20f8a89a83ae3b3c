"""Layout: every byte that is not part of an edit stays what it was, however the statements are written."""

import pytest

from ampify.convert import convert

HEAD = """\
import torch
import torch.nn.functional as F
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
IMPORT = "from ampify_runtime import autocast, scaler\n"
START = HEAD.index("model")

# Loops: before, `---`, after. A `>` marks the end of a line with blanks behind it.
LOOPS = {
    "one statement a line": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a one-line loop": """
for x, y in data: optimizer.zero_grad(); loss = F.mse_loss(model(x), y); loss.backward(); optimizer.step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward(); scaler.step(optimizer)
    scaler.update()
""",
    "semicolons": """
for x, y in data:
    optimizer.zero_grad(); loss = F.mse_loss(model(x), y);
    loss.backward(); optimizer.step();
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y);
    scaler.scale(loss).backward(); scaler.step(optimizer);
    scaler.update()
""",
    "a one-line if with a step": """
for i, (x, y) in enumerate(data):
    loss = F.mse_loss(model(x), y)
    loss.backward()
    if i % 2: optimizer.step(); optimizer.zero_grad()
---
for i, (x, y) in enumerate(data):
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    if i % 2: scaler.step(optimizer); scaler.update(); optimizer.zero_grad()
""",
    "comments": """
for x, y in data:  # a
    # b
    optimizer.zero_grad()  # c

    # d
    loss = F.mse_loss(model(x), y)  # e

    # f
    loss.backward()  # g
    # h
    optimizer.step()  # i
    # j
# k
---
for x, y in data:  # a
    # b
    optimizer.zero_grad()  # c

    # d
    with autocast():
        loss = F.mse_loss(model(x), y)  # e

    # f
    scaler.scale(loss).backward()  # g
    # h
    scaler.step(optimizer)  # i
    scaler.update()
    # j
# k
""",
    "a comment inside a call": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(
        model(x),  # a
        y,
        # b
    )  # c
    loss.backward(
        retain_graph=True,  # d
    )
    optimizer.step(
        # e
    )
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(
            model(x),  # a
            y,
            # b
        )  # c
    scaler.scale(loss).backward(
        retain_graph=True,  # d
    )
    scaler.step(
        # e
    optimizer)
    scaler.update()
""",
    "an empty call on two lines": """
for x, y in data:
    optimizer.zero_grad(
    )
    loss = F.mse_loss(model(x), y)
    loss.backward(
    )
    optimizer.step(
    )
---
for x, y in data:
    optimizer.zero_grad(
    )
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward(
    )
    scaler.step(optimizer)
    scaler.update()
""",
    "parenthesised receivers": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    (loss).backward()
    (optimizer).step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a sum as receiver": """
for x, y in data:
    optimizer.zero_grad()
    a = F.mse_loss(model(x), y)
    b = F.l1_loss(model(x), y)
    (a + 2 * b).backward()
    optimizer.step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        a = F.mse_loss(model(x), y)
        b = F.l1_loss(model(x), y)
    scaler.scale(a + 2 * b).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a receiver over two lines": """
for x, y in data:
    optimizer.zero_grad()
    a = F.mse_loss(model(x), y)
    (a
     + a).backward()
    optimizer.step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        a = F.mse_loss(model(x), y)
    scaler.scale(a
     + a).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "nested calls": """
for x, y in data:
    optimizer.zero_grad()
    losses = [F.mse_loss(model(x), y)]
    print(sum(losses).backward(), optimizer.step())
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        losses = [F.mse_loss(model(x), y)]
    print(scaler.scale(sum(losses)).backward(), scaler.step(optimizer))
    scaler.update()
""",
    "torch.autograd.backward": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    torch.autograd.backward( [loss] , retain_graph = True )
    optimizer . step ( )
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    torch.autograd.backward( scaler.scale([loss]) , retain_graph = True )
    scaler . step (optimizer)
    scaler.update()
""",
    "a triple-quoted string": '''
for x, y in data:
    optimizer.zero_grad()
    out = model(x)
    print("""a
b
    c""", f"""
  {x}
""")
    loss = F.mse_loss(out, y)
    loss.backward()
    optimizer.step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        out = model(x)
        print("""a
b
    c""", f"""
  {x}
""")
        loss = F.mse_loss(out, y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
''',
    "a backslash": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), \\
        y)
    loss = loss \\
        + 1
    loss.backward()
    optimizer \\
        .step()
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), \\
            y)
        loss = loss \\
            + 1
    scaler.scale(loss).backward()
    scaler \\
        .step(optimizer)
    scaler.update()
""",
    "a decorated step": """
@timed
@other(1)  # a
def train_step(x, y):
    '''Doc.'''
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
---
@timed
@other(1)  # a
def train_step(x, y):
    '''Doc.'''
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss
""",
    "two spaces": """
for x, y in data:
  optimizer.zero_grad()
  loss = F.mse_loss(model(x), y)
  loss.backward()
  optimizer.step()
---
for x, y in data:
  optimizer.zero_grad()
  with autocast():
    loss = F.mse_loss(model(x), y)
  scaler.scale(loss).backward()
  scaler.step(optimizer)
  scaler.update()
""",
    "tabs": """
for x, y in data:
\toptimizer.zero_grad()
\tloss = F.mse_loss(
\t\tmodel(x),
\t\ty)
\tloss.backward()
\toptimizer.step()
---
for x, y in data:
\toptimizer.zero_grad()
\twith autocast():
\t\tloss = F.mse_loss(
\t\t\tmodel(x),
\t\t\ty)
\tscaler.scale(loss).backward()
\tscaler.step(optimizer)
\tscaler.update()
""",
    "a form feed": """
\f
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
\f
print(1)
---
\f
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
\f
print(1)
""",
    "odd blanks": """
for x , y in data :
    optimizer.zero_grad( )
    loss=F.mse_loss( model(x),y )
    loss . backward( )
    optimizer.step( )
---
for x , y in data :
    optimizer.zero_grad( )
    with autocast():
        loss=F.mse_loss( model(x),y )
    scaler.scale(loss) . backward( )
    scaler.step(optimizer)
    scaler.update()
""",
    "trailing blanks": """
for x, y in data: >
    optimizer.zero_grad()  >
    >
    loss = F.mse_loss(model(x), y)  >
    loss.backward()\t>
    optimizer.step()  >
print(1)
---
for x, y in data: >
    optimizer.zero_grad()  >
    >
    with autocast():
        loss = F.mse_loss(model(x), y)  >
    scaler.scale(loss).backward()\t>
    scaler.step(optimizer)  >
    scaler.update()
print(1)
""",
    "formatters' comments": """
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)  # type: ignore
    loss.backward()  # noqa: E501
    # fmt: off
    optimizer.step()
    # fmt: on
---
for x, y in data:
    optimizer.zero_grad()
    with autocast():
        loss = F.mse_loss(model(x), y)  # type: ignore
    scaler.scale(loss).backward()  # noqa: E501
    # fmt: off
    scaler.step(optimizer)
    scaler.update()
    # fmt: on
""",
}


def _sides(name: str) -> tuple[str, str]:
    before, _, after = LOOPS[name].removeprefix("\n").replace(">\n", "\n").partition("---\n")
    before, after = (HEAD + text for text in (before, after))
    at = HEAD.index("model =")
    return before, after[:at] + IMPORT + after[at:]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", LOOPS)
def test_layout(name: str, newline: str) -> None:
    before, after = (text.replace("\n", newline) for text in _sides(name))
    result = convert(before.encode())
    assert [d.message for d in result.diagnostics] == []
    assert result.output == after.encode()


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\n# end", "\n\n# end\n", "\n    ", "\n\t"])
def test_the_end_of_the_file(end: str) -> None:
    before, after = (text.rstrip("\n") + end for text in _sides("one statement a line"))
    assert convert(before.encode()).output == after.encode()


@pytest.mark.parametrize(
    "start", ["\ufeff", "#!/usr/bin/env python\n", "# -*- coding: utf-8 -*-\n", "\n\n", "# a\n\n'''doc'''\n"]
)
def test_the_start_of_the_file(start: str) -> None:
    before, after = (start + text for text in _sides("one statement a line"))
    assert convert(before.encode()).output == after.encode()


def test_another_encoding() -> None:
    before, after = ("# coding: latin-1\nname = 'é'\n" + text for text in _sides("one statement a line"))
    assert convert(before.encode("latin-1")).output == after.encode("latin-1")


def test_the_lines_that_change_are_few() -> None:
    """A line that no edit concerns is the same bytes, blank lines and all."""
    before, after = _sides("comments")
    kept = [line for line in before.splitlines() if line in after.splitlines()]
    assert len(kept) == len(before.splitlines()) - 3


NOT_KEPT = {
    "two lines of blanks at the end": lambda text: text + "print(1)\n \n ",
    "blanks behind a comment at the end": lambda text: text + "print(1)  # a\n  # b\n ",
    "carriage returns alone": lambda text: text.replace("\n", "\r"),
    "one carriage return alone": lambda text: text.replace("\nmodel", "\rmodel", 1),
    "a carriage return in a string": lambda text: text + "s = '''a\rb'''\n",
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_refused(name: str) -> None:
    source = NOT_KEPT[name](_sides("one statement a line")[0]).encode()
    result = convert(source)
    assert (result.status, result.output) == ("refused", source)
    assert [d.code for d in result.diagnostics] == ["AMP920"]
