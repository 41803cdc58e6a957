"""The text of ``--help``, kept as text: it is printed without importing the parser, which takes a quarter of a second.

A test holds it against the options that the parser knows.
"""

from __future__ import annotations

from collections.abc import Sequence

MAIN = """\
usage: graphprune MODEL --budget BUDGET [-o OUT] [options]
       graphprune inspect MODEL     groups with sizes and members, frozen axes, costs per node
       graphprune compare A B       two models: costs, what differs, how far apart outputs are
       graphprune bench A B         models timed in turns, and where their time goes
       graphprune profile MODEL     how long nodes take on this machine, by their widths
       graphprune report FILE       what --report wrote as a page for a browser
       graphprune figures FILE      single figures of a report or a sweep, for papers
       graphprune passes            the methods, and what each needs
       graphprune sweep MODEL       what several budgets cost, measured: a table, a curve
       graphprune stats MODEL       what layers read on samples, in a file; in parts, merged
       graphprune finetune MODEL    train a pruned model to do what its original does
       graphprune completion SHELL  completion of commands and options in bash, zsh or fish

Prune an ONNX model: remove channels, neurons and heads until it fits a budget, check that
the smaller model computes the same function, and write it beside the input.

  graphprune model.onnx --budget 0.5        keeps half of the MACs; writes model.pruned.onnx
  graphprune bert --budget 0.5              a folder with config.json; writes bert.pruned/

what to keep
  --budget BUDGET       0.5 (of the multiply-accumulates), macs=0.5, params=0.6, size=10MB,
                        memory=0.7 (peak activations), latency=0.5 or latency=4ms (measured);
                        several with commas or repeated, all are honoured; not needed by
                        methods that decide for themselves
  --plan FILE           follow a plan that --save-plan wrote, instead of scoring and solving
  --keep PATTERN        protect nodes and tensors whose names match, such as '*head*';
                        may be repeated
  --min-width N         units a group keeps at least (default 1); at 0 branches may go
  --multiple N|auto     keep widths that are multiples of N (default auto: as kernels like)
  --time-limit SECONDS  look for better widths, and prove how good they are, for so long
  --allow-inexact       also prune across normalisations, whose statistics then change
  --prune KINDS         prune these kinds of units only: channels, neurons (or ffn), heads,
                        head-dims, hidden; several with commas or repeated

how
  --method NAME         how units are scored; graphprune passes lists the methods
                        (default auto: obs with --data, magnitude without)
  --data DATA           samples, labelled or not: an .npz (arrays by input name) or .npy file,
                        a folder of those or of images, or module:function; used by methods
                        that learn from data, to repair what is left, and to tell the cost
  --repair HOW          least-squares: fit the weights that are left to what the original
                        computes on --data; blocks: then train them, block by block, to do so
                        (minutes, needs torch); bias: fit biases alone; none; auto (default):
                        least-squares, where the method does not change weights itself
  --holdout FRACTION    of --data, kept to measure on what pruning cost (default: a fifth, at
                        most 512 samples)
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file
  --labels NAME         the array of labels (default: labels, label, y, target or targets)
  --loss NAME           auto, kl, mse, ce, or module:function: what methods differentiate
  --samples N           show methods and repair only the first N samples (repair: 256)
  --option KEY=VALUE    another of the method's options, such as beta=231; may be repeated;
                        graphprune passes METHOD lists them
  --steps N             approach the budget in N steps, scores taken anew in between
  --epochs N            train N epochs on --data between the steps, from the original as the
                        teacher (graphprune finetune trains what comes out)
  --seed N              seed of all that is random (default 0)
  --input-shape NAME=1,3,224,224
                        sizes to count costs with, for inputs with dynamic axes; may be
                        repeated

what latency is measured on
  --provider NAME       onnxruntime's execution provider: cpu (default), cuda, coreml, ...
  --threads N           threads within an operator (default 1); 0: as many as onnxruntime takes
  --batch N             samples at once, where the model leaves that open (default 1)
  --profile FILE        plan by a profile that graphprune profile wrote, perhaps elsewhere: the
                        budget is then kept by what it says; --multiple auto follows it, too

what is written
  -o, --output OUT      the smaller model (default MODEL.pruned.onnx beside the input)
  --report FILE         what was cut, kept and why, as JSON
  --html FILE           the same as a page for a browser, in one file
  --save-plan FILE      the units kept, as JSON, for --plan
  --force               overwrite files that exist (never the input)
  --dry-run             do everything but write
  --json                print the report as JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step, all widths, and everything that was not pruned
  -h, --help            print this
  --version             print the version

Defaults for options may stand in graphprune.toml, or in [tool.graphprune] of pyproject.toml,
in the working folder. Exit status: 0 done; 1 budget out of reach, or a check failed;
2 wrong usage, or a file that cannot be read or written.
"""

INSPECT = """\
usage: graphprune inspect MODEL [options]

Show the groups with their sizes and members, the frozen axes with the reasons, and the
multiply-accumulates and parameters of every node.

  --keep PATTERN        protect nodes and tensors whose names match, as when pruning
  --allow-inexact       also open groups that cross normalisations
  --prune KINDS         open these kinds of groups only, such as heads,ffn
  --input-shape NAME=1,3,224,224
                        sizes to count costs with, for inputs with dynamic axes
  --html FILE           all of it as a page for a browser, in one file
  --force               overwrite a file that exists (never the model)
  --json                print JSON on stdout
  -q, --quiet           show no progress
  -v, --verbose         list every member, node and reason
  -h, --help            print this
"""

PASSES = """\
usage: graphprune passes [METHOD] [--json]

List the methods: name, what it needs (nothing, data, labels, training), and what it does;
of one method, its options too.

  --json                print JSON on stdout, with every method's options
  -h, --help            print this
"""

BENCH = """\
usage: graphprune bench MODEL [MODEL ...] [options]

Time models against each other: in turns, warm, until the ratios are known to a per cent or
the time is up. Ratios are to the first model, taken round by round.

  graphprune bench model.onnx model.pruned.onnx --nodes

what to run
  --provider NAME       onnxruntime's execution provider: cpu (default), cuda, coreml, ...
  --threads N           threads within an operator (default 1); 0: as many as onnxruntime takes
  --batch N             samples at once, where the models leave that open (default 1)
  --input-shape NAME=1,3,224,224
                        sizes of inputs with dynamic axes; may be repeated
  --data DATA           feed the first samples: as when pruning; without, random inputs
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file
  --seconds S           of running, all models together, at most (default 10)
  --nodes               also profile every model: where its time goes, by node
  --seed N              seed of the random inputs (default 0)

what is written
  --report FILE         the timings as JSON
  --force               overwrite a file that exists (never a model)
  --json                print JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step, and all nodes
  -h, --help            print this
"""

COMPARE = """\
usage: graphprune compare A B [--data DATA] [options]

Compare two ONNX models of the same inputs and outputs: what each costs, which stored tensors
were cut, changed, added or removed, and how far the outputs are apart on the same inputs.

  graphprune compare model.onnx model.pruned.onnx --data calib.npz

what to run
  --data DATA           samples, labelled or not: as when pruning; without, random inputs
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file
  --labels NAME         the array of labels (default: labels, label, y, target or targets)
  --samples N           only the first N samples; without --data, N random inputs (default 4)
  --seed N              seed of the random inputs (default 0)
  --input-shape NAME=1,3,224,224
                        sizes of inputs with dynamic axes, for costs and random inputs
  --run FILE            the report of the run that made B from A (written by --report there):
                        compares values of tensors that were cut and changed, too

what is written
  --html FILE           the comparison as a page
  --report FILE         the comparison as JSON, every tensor that differs
  --force               overwrite files that exist (never the models)
  --json                print the comparison as JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step, and all tensors that differ
  -h, --help            print this
"""

COMPLETION = """\
usage: graphprune completion [bash|zsh|fish] [--install]

Print what a shell needs to complete commands and options, or install it for this user. Without
a name it is for the shell that runs (by $SHELL).

  graphprune completion --install

  --install             put it where the shell looks: ~/.local/share/bash-completion, ~/.zfunc,
                        or ~/.config/fish/completions
  -o, --output FILE     write it there instead
  --force               overwrite a file that exists
  -q, --quiet           print nothing but errors
  -h, --help            print this
"""

FIGURES = """\
usage: graphprune figures FILE [-o FOLDER] [options]

Draw single figures for papers from what --report wrote: of a report the widths before and
after, the scores with the cut and the latency by node, of a sweep the curve. Needs matplotlib
(pip install graphprune[figures]); what the file does not hold is left out.

  graphprune figures report.json -o figures --format svg,pdf

  -o, --output FOLDER   where to (default: FILE.figures in the working folder)
  --format FORMATS      svg, pdf, png, or several with commas (default svg)
  --only NAMES          some of widths, scores, latency, curve; several with commas or repeated
  --dpi N               dots an inch, of png (default 300)
  --force               overwrite files that exist
  -q, --quiet           print nothing but errors
  -h, --help            print this
"""

FINETUNE = """\
usage: graphprune finetune MODEL --data DATA [--teacher MODEL] [-o OUT] [options]

Train a model, most often a pruned one, to do what its teacher does, what labels say, or
both; write a new file in which nothing but trained values differs.

  graphprune finetune small.onnx --teacher model.onnx --data train.npz --epochs 3
  torchrun --nproc-per-node 2 -m graphprune finetune ...     the same on two processes

what to learn from
  --data DATA           an .npz (arrays by input name) or .npy file, a folder of those or of
                        images, or module:function, which returns data
  --teacher MODEL       the model to learn from: the one that this was pruned from
  --labels NAME         the array of labels (default: labels, label, y, target or targets)
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file with some of size,
                        crop, mean, std, scale, layout, channels, filter
  --holdout FRACTION    samples that are kept from training to measure on (default 0.1)
  --loss NAME           auto, kl, mse, ce, or module:function (default auto: from a teacher
                        kl for logits and probabilities, mse otherwise; ce from labels)
  --temperature T       softens both sides of kl (default 1)
  --label-weight W      share of the labels' loss beside the teacher's (default 0.5)

how
  --epochs N            times through the data (default 3)
  --lr RATE             highest learning rate (default 0.001 with adamw, 0.01 with sgd)
  --warmup FRACTION     of all steps, before a cosine to zero (default 0.05)
  --optimizer NAME      adamw or sgd (default adamw)
  --weight-decay W      of weights, not of biases and scales (default 0.01)
  --batch-size N        samples a step, over all processes (default 32)
  --patience N          stop after N epochs without a new best on the held-out samples
  --batch-norm HOW      train, freeze, or auto: freeze under 8 samples at once (default auto)
  --precision P         32, bf16, fp16 or auto: mixed on a GPU (default auto)
  --device D            cpu, cuda or auto (default auto)
  --seed N              seed of all that is random (default 0)

what is written
  -o, --output OUT      the trained model (default MODEL.finetuned.onnx beside the input)
  --checkpoint FILE     keep the run there; the same command goes on from it
  --checkpoint-every S  seconds between checkpoints within an epoch (default 60)
  --restart             begin anew, whatever the checkpoint holds
  --report FILE         what was done and gained, as JSON
  --html FILE           the same as a page for a browser, in one file
  --force               overwrite files that exist (never an input)
  --json                print the report as JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print ten lines an epoch
  -h, --help            print this
"""

SWEEP = """\
usage: graphprune sweep MODEL --data DATA [--budgets 0.9..0.3] [options]

Prune a model to several budgets and measure what each costs: how much of the original's
answers stays, on samples that nothing was chosen by. No model is written.

  graphprune sweep model.onnx --data calib.npz --svg curve.svg

what to measure
  --budgets BUDGETS     a range of 7 budgets, 0.9..0.3 (default), of N, 0.9..0.3/N, or single
                        ones with commas; params=0.9..0.5 or latency=0.8..0.4 limits
                        something else
  --data DATA           samples: as when pruning; without it, random inputs alone
  --holdout FRACTION    of --data, kept to measure on (default: a fifth, at most 512 samples)
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file
  --labels NAME         the array of labels (default: labels, label, y, target or targets)

how models are pruned
  --method NAME         how units are scored, as when pruning
  --repair HOW          least-squares, blocks, bias, none or auto, as when pruning
  --loss NAME           auto, kl, mse, ce, or module:function: what methods differentiate
  --samples N           show methods and repair only the first N samples (repair: 256)
  --option KEY=VALUE    another of the method's options; may be repeated
  --keep PATTERN        protect nodes and tensors whose names match; may be repeated
  --min-width N         units a group keeps at least (default 1); at 0 branches may go
  --multiple N|auto     keep widths that are multiples of N (default auto: as kernels like)
  --time-limit SECONDS  look for better widths, and prove how good they are, for so long
  --allow-inexact       also prune across normalisations, whose statistics then change
  --prune KINDS         prune these kinds of units only, such as heads,ffn
  --seed N              seed of all that is random (default 0)
  --input-shape NAME=1,3,224,224
                        sizes to count costs with, for inputs with dynamic axes

what latency is measured on
  --provider NAME       onnxruntime's execution provider: cpu (default), cuda, coreml, ...
  --threads N           threads within an operator (default 1); 0: as many as onnxruntime takes
  --batch N             samples at once, where the model leaves that open (default 1)
  --profile FILE        plan by a profile that graphprune profile wrote, perhaps elsewhere: the
                        budget is then kept by what it says; --multiple auto follows it, too

what is written
  --svg FILE            the curve, as a picture
  --report FILE         all points with their widths, as JSON
  --html FILE           the curve and the widths as a page for a browser, in one file
  --force               overwrite files that exist (never the input)
  --json                print JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step
  -h, --help            print this
"""

REPORT = """\
usage: graphprune report REPORT [SWEEP] [-o FILE] [options]

Draw what --report wrote (of a pruned model, a sweep or fine-tuning) as a page for a browser:
one file that needs neither the model nor a network. With a sweep of the same model, its
curve is part of the page.

  graphprune report report.json -o report.html

  -o, --output FILE     the page (default: beside the report, ending in .html)
  --force               overwrite a file that exists (never the report)
  -q, --quiet           print nothing but errors
  -h, --help            print this
"""

STATS = """\
usage: graphprune stats MODEL [--data DATA] [-o FILE] [options]

Run a model once over samples and write the first and second moments of what its layers
read: what scores and repair without training stand on. Parts that several processes or
machines take of the same samples add up to the whole.

  graphprune stats model.onnx --data calib --shard 2/8     the second of eight parts
  graphprune stats model.onnx --merge model.stats.*of8.npz puts them together
  torchrun --nproc-per-node 8 -m graphprune stats ...      the eight parts at once

what to look at
  --data DATA           samples: an .npz (arrays by input name) or .npy file, a folder of those
                        or of images, or module:function; without, they are made up
  --preprocess WAY      of images: imagenet, clip, or a JSON or TOML file
  --samples N           only the first N samples
  --rows N              rows of a layer over all samples, at most; 0 takes all there are
                        (default 8192)
  --shard K/N           only the K-th of N parts of the samples, K from 1
  --merge FILES         add up these files instead
  --allow-inexact       also look at groups that cross normalisations, as when pruning
  --input-shape NAME=1,3,224,224
                        sizes to count costs with, for inputs with dynamic axes

how
  --batch-size N        samples that run at once (default: as many as fit 256 MB)
  --provider NAME       onnxruntime's execution provider: cpu (default), cuda, coreml, ...
  --seed N              seed of which rows are taken (default 0)

what is written
  -o, --output FILE     the statistics (default MODEL.stats.npz beside the model, of a part
                        MODEL.stats.KofN.npz; torchrun's processes put KofN into any name)
  --force               overwrite a file that exists (never the model)
  --json                print what was taken as JSON on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step
  -h, --help            print this
"""

PROFILE = """\
usage: graphprune profile MODEL [-o FILE] [options]

Measure how long every node of a model takes on this machine, by how wide it is: few timings,
more of them where a kernel charges in steps. Timings are kept for the next time.

  graphprune profile model.onnx -o profile.json
  graphprune model.onnx --budget latency=0.5 --profile profile.json      on any machine

what to run
  --provider NAME       onnxruntime's execution provider: cpu (default), cuda, coreml, ...
  --threads N           threads within an operator (default 1); 0: as many as onnxruntime takes
  --batch N             samples at once, where the model leaves that open (default 1)
  --input-shape NAME=1,3,224,224
                        sizes of inputs with dynamic axes; may be repeated
  --no-cache            time everything anew, and keep nothing
  --keep PATTERN        as when pruning: widths that stay are not measured; may be repeated
  --allow-inexact       also measure widths across normalisations
  --prune KINDS         measure these kinds of widths only, such as heads,ffn

what is written
  -o, --output FILE     the profile, for --profile
  --force               overwrite a file that exists (never the model)
  --json                print the profile on stdout, words on stderr
  -q, --quiet           print nothing but errors
  -v, --verbose         print every step, and all nodes
  -h, --help            print this
"""

TEXTS = {
    "bench": BENCH,
    "compare": COMPARE,
    "completion": COMPLETION,
    "figures": FIGURES,
    "finetune": FINETUNE,
    "inspect": INSPECT,
    "passes": PASSES,
    "profile": PROFILE,
    "report": REPORT,
    "stats": STATS,
    "sweep": SWEEP,
}


def wanted(arguments: Sequence[str]) -> str | None:
    """Return the help that the arguments ask for, None if they ask for none."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--help" not in own and "-h" not in own:
        return None
    return TEXTS.get(own[0], MAIN)
