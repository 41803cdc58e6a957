"""Case 17: what a later version prunes freezes for now, with a reason; the rest still prunes."""

from __future__ import annotations

from checks import check_equivalence
from onnx_models import Net


def test_contributed_operators() -> None:
    """A fused skip connection and layer norm of onnxruntime's own domain."""
    net = Net()
    x = net.linear(net.input(1, 5, 3), 3, 8, name="embed")
    y = net.linear(net.op("Relu", net.linear(x, 8, 12, name="up")), 12, 8, name="down")
    z = net.op("SkipLayerNormalization", y, x, net.vector(8), net.vector(8), domain="com.microsoft", name="skip")
    case = check_equivalence(net.model(net.linear(z, 8, 2)))
    assert list(case.groups) == ["up"]
    assert "SkipLayerNormalization" in case.why_frozen("down.weight", 1)


def test_a_contributed_activation_is_just_elementwise() -> None:
    net = Net()
    x = net.op(
        "BiasGelu",
        net.linear(net.input(1, 5, 3), 3, 8, bias=False, name="up"),
        net.vector(8, "bias"),
        domain="com.microsoft",
    )
    case = check_equivalence(net.model(net.linear(x, 8, 2, name="down")))
    assert case.group_of("bias", 0) == case.group_of("up.weight", 1) == case.group_of("down.weight", 0)
