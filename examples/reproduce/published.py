"""Published rows, by network. rW, rN and MACs of those with widths are computed here, not copied.

Where a row's note says "recalled", its numbers were written down from memory and could not be checked in the paper;
other widths and errors were seen in the paper's abstract or repository, or in a later paper that cites it.
"""

from __future__ import annotations

from nets import NETS
from tables import Row, published

_300, _500, _5 = NETS["lenet-300-100"], NETS["lenet-500-300"], NETS["lenet-5-caffe"]
RECALLED = "recalled"

VIBNET_300 = published(_300, "VIBNet", (97, 71, 33), 1.6)
LENET_300_100: tuple[Row, ...] = (
    published(_300, "variational dropout", (512, 114, 72), 1.8),
    published(_300, "BC-GNJ", (278, 98, 13), 1.8),
    published(_300, "BC-GHS", (311, 86, 14), 1.8),
    published(_300, "L0", (219, 214, 100), 1.4),
    published(_300, "L0-sep", (266, 88, 33), 1.8),
    published(_300, "DropNeuron", None, 1.8, rw=23.05, rn=57.94),
    VIBNET_300,
)

CORESET_300: tuple[Row, ...] = (
    published(_300, "dense", _300.full, 2.16, note=f"Mussay et al.; error {RECALLED}"),
    published(_300, "coresets", None, 2.03, rw=10.0, note=f"267K to 26K parameters; error {RECALLED}"),
)

SBP_500 = published(_500, "SBP", (245, 160, 55), 1.55)
LENET_500_300: tuple[Row, ...] = (
    published(_500, "dense", (784, 500, 300), 1.54),
    published(_500, "sparse variational dropout", (537, 217, 130), 1.57),
    published(_500, "SSL", (434, 174, 78), 1.49),
    SBP_500,
)

SBP_5 = published(_5, "SBP", (3, 18, 284, 283), 0.86)
VIBNET_5 = published(_5, "VIBNet", None, 1.0, rw=0.83, rn=15.55, note=RECALLED)
LENET_5: tuple[Row, ...] = (
    published(_5, "dense", (20, 50, 800, 500), 0.80),
    published(_5, "GD", (7, 13, 208, 16), 1.1),
    published(_5, "group lasso", (3, 12, 192, 500), 1.0, note=RECALLED),
    published(_5, "variational dropout", (14, 19, 242, 131), 1.0, note=RECALLED),
    SBP_5,
    published(_5, "BC-GNJ", (8, 13, 88, 13), 1.0),
    published(_5, "BC-GHS", (5, 10, 76, 16), 1.0),
    published(_5, "L0", (20, 25, 45, 462), 0.9),
    published(_5, "L0-sep", (9, 18, 65, 25), 1.0),
    VIBNET_5,
)
