"""Every family of operators, imported for the table they fill."""

from . import (  # noqa: F401
    ops_attention,
    ops_contraction,
    ops_contrib,
    ops_contrib_attention,
    ops_contrib_quantized,
    ops_conv,
    ops_elementwise,
    ops_norm,
    ops_pool,
    ops_quantize,
    ops_random,
    ops_recurrent,
    ops_reduce,
    ops_resize,
    ops_search,
    ops_select,
    ops_sequence,
    ops_shape,
    ops_signal,
    ops_vision,
)
