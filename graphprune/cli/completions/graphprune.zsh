#compdef graphprune
# Completion of graphprune for zsh: made by python -m graphprune.cli.completion, do not edit.

_graphprune() {
    local -a commands=(
        'inspect:groups with sizes and members, frozen axes, costs per node'
        'compare:two models: costs, what differs, how far apart outputs are'
        'bench:models timed in turns, and where their time goes'
        'profile:how long nodes take on this machine, by their widths'
        'report:what --report wrote as a page for a browser'
        'figures:single figures of a report or a sweep, for papers'
        'passes:the methods, and what each needs'
        'sweep:what several budgets cost, measured: a table, a curve'
        'stats:what layers read on samples, in a file; in parts, merged'
        'finetune:train a pruned model to do what its original does'
        'completion:completion of commands and options in bash, zsh or fish'
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe command commands
        _files
        return
    fi
    case $words[2] in
        bench)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--provider)'--provider'[onnxruntimes execution provider\: cpu (default), cuda, coreml, ...]:value:' \
                '(--threads)'--threads'[threads within an operator (default 1); 0\: as many as onnxruntime takes]:value:' \
                '(--batch)'--batch'[samples at once, where the models leave that open (default 1)]:value:' \
                '*'--input-shape'[sizes of inputs with dynamic axes; may be repeated]:value:' \
                '(--data)'--data'[feed the first samples\: as when pruning; without, random inputs]:file:_files' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file]:value:(imagenet clip)' \
                '(--seconds)'--seconds'[of running, all models together, at most (default 10)]:value:' \
                '(--nodes)'--nodes'[also profile every model\: where its time goes, by node]' \
                '(--seed)'--seed'[seed of the random inputs (default 0)]:value:' \
                '(--report)'--report'[the timings as JSON]:file:_files' \
                '(--force)'--force'[overwrite a file that exists (never a model)]' \
                '(--json)'--json'[print JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step, and all nodes]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        compare)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--data)'--data'[samples, labelled or not\: as when pruning; without, random inputs]:file:_files' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file]:value:(imagenet clip)' \
                '(--labels)'--labels'[the array of labels (default\: labels, label, y, target or targets)]:value:' \
                '(--samples)'--samples'[only the first N samples; without --data, N random inputs (default 4)]:value:' \
                '(--seed)'--seed'[seed of the random inputs (default 0)]:value:' \
                '*'--input-shape'[sizes of inputs with dynamic axes, for costs and random inputs]:value:' \
                '(--run)'--run'[the report of the run that made B from A (written by --report there)]:file:_files' \
                '(--html)'--html'[the comparison as a page]:file:_files' \
                '(--report)'--report'[the comparison as JSON, every tensor that differs]:file:_files' \
                '(--force)'--force'[overwrite files that exist (never the models)]' \
                '(--json)'--json'[print the comparison as JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step, and all tensors that differ]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        completion)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--install)'--install'[put it where the shell looks\: ~/.local/share/bash-completion, ~/.zfunc]' \
                '(--output -o)'{-o,--output}'[write it there instead]:file:_files' \
                '(--force)'--force'[overwrite a file that exists]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '1:word:(bash zsh fish)'
            ;;
        figures)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--output -o)'{-o,--output}'[where to (default\: FILE.figures in the working folder)]:file:_files' \
                '(--format)'--format'[svg, pdf, png, or several with commas (default svg)]:value:(svg pdf png)' \
                '*'--only'[some of widths, scores, latency, curve; several with commas or repeated]:value:(widths scores latency curve)' \
                '(--dpi)'--dpi'[dots an inch, of png (default 300)]:value:' \
                '(--force)'--force'[overwrite files that exist]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        finetune)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--data)'--data'[an .npz (arrays by input name) or .npy file, a folder of those or of]:file:_files' \
                '(--teacher)'--teacher'[the model to learn from\: the one that this was pruned from]:file:_files' \
                '(--labels)'--labels'[the array of labels (default\: labels, label, y, target or targets)]:value:' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file with some of size]:value:(imagenet clip)' \
                '(--holdout)'--holdout'[samples that are kept from training to measure on (default 0.1)]:value:' \
                '(--loss)'--loss'[auto, kl, mse, ce, or module\:function (default auto\: from a teacher]:value:(auto kl mse ce)' \
                '(--temperature)'--temperature'[softens both sides of kl (default 1)]:value:' \
                '(--label-weight)'--label-weight'[share of the labels loss beside the teachers (default 0.5)]:value:' \
                '(--epochs)'--epochs'[times through the data (default 3)]:value:' \
                '(--lr)'--lr'[highest learning rate (default 0.001 with adamw, 0.01 with sgd)]:value:' \
                '(--warmup)'--warmup'[of all steps, before a cosine to zero (default 0.05)]:value:' \
                '(--optimizer)'--optimizer'[adamw or sgd (default adamw)]:value:(adamw sgd)' \
                '(--weight-decay)'--weight-decay'[of weights, not of biases and scales (default 0.01)]:value:' \
                '(--batch-size)'--batch-size'[samples a step, over all processes (default 32)]:value:' \
                '(--patience)'--patience'[stop after N epochs without a new best on the held-out samples]:value:' \
                '(--batch-norm)'--batch-norm'[train, freeze, or auto\: freeze under 8 samples at once (default auto)]:value:(auto train freeze)' \
                '(--precision)'--precision'[32, bf16, fp16 or auto\: mixed on a GPU (default auto)]:value:(auto 32 bf16 fp16)' \
                '(--device)'--device'[cpu, cuda or auto (default auto)]:value:(auto cpu cuda)' \
                '(--seed)'--seed'[seed of all that is random (default 0)]:value:' \
                '(--output -o)'{-o,--output}'[the trained model (default MODEL.finetuned.onnx beside the input)]:file:_files' \
                '(--checkpoint)'--checkpoint'[keep the run there; the same command goes on from it]:file:_files' \
                '(--checkpoint-every)'--checkpoint-every'[seconds between checkpoints within an epoch (default 60)]:value:' \
                '(--restart)'--restart'[begin anew, whatever the checkpoint holds]' \
                '(--report)'--report'[what was done and gained, as JSON]:file:_files' \
                '(--html)'--html'[the same as a page for a browser, in one file]:file:_files' \
                '(--force)'--force'[overwrite files that exist (never an input)]' \
                '(--json)'--json'[print the report as JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print ten lines an epoch]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        inspect)
            shift words
            (( CURRENT-- ))
            _arguments \
                '*'--keep'[protect nodes and tensors whose names match, as when pruning]:value:' \
                '(--allow-inexact)'--allow-inexact'[also open groups that cross normalisations]' \
                '*'--prune'[open these kinds of groups only, such as heads,ffn]:value:(channels neurons heads head-dims hidden)' \
                '*'--input-shape'[sizes to count costs with, for inputs with dynamic axes]:value:' \
                '(--html)'--html'[all of it as a page for a browser, in one file]:file:_files' \
                '(--force)'--force'[overwrite a file that exists (never the model)]' \
                '(--json)'--json'[print JSON on stdout]' \
                '(--quiet -q)'{-q,--quiet}'[show no progress]' \
                '(--verbose -v)'{-v,--verbose}'[list every member, node and reason]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        passes)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--json)'--json'[print JSON on stdout, with every methods options]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '1:word:(bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda)'
            ;;
        profile)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--provider)'--provider'[onnxruntimes execution provider\: cpu (default), cuda, coreml, ...]:value:' \
                '(--threads)'--threads'[threads within an operator (default 1); 0\: as many as onnxruntime takes]:value:' \
                '(--batch)'--batch'[samples at once, where the model leaves that open (default 1)]:value:' \
                '*'--input-shape'[sizes of inputs with dynamic axes; may be repeated]:value:' \
                '(--no-cache)'--no-cache'[time everything anew, and keep nothing]' \
                '*'--keep'[as when pruning\: widths that stay are not measured; may be repeated]:value:' \
                '(--allow-inexact)'--allow-inexact'[also measure widths across normalisations]' \
                '*'--prune'[measure these kinds of widths only, such as heads,ffn]:value:(channels neurons heads head-dims hidden)' \
                '(--output -o)'{-o,--output}'[the profile, for --profile]:file:_files' \
                '(--force)'--force'[overwrite a file that exists (never the model)]' \
                '(--json)'--json'[print the profile on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step, and all nodes]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        report)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--output -o)'{-o,--output}'[the page (default\: beside the report, ending in .html)]:file:_files' \
                '(--force)'--force'[overwrite a file that exists (never the report)]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        stats)
            shift words
            (( CURRENT-- ))
            _arguments \
                '(--data)'--data'[samples\: an .npz (arrays by input name) or .npy file, a folder of those]:file:_files' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file]:value:(imagenet clip)' \
                '(--samples)'--samples'[only the first N samples]:value:' \
                '(--rows)'--rows'[rows of a layer over all samples, at most; 0 takes all there are]:value:' \
                '*'--merge'[add up these files instead]:file:_files' \
                '(--allow-inexact)'--allow-inexact'[also look at groups that cross normalisations, as when pruning]' \
                '*'--input-shape'[sizes to count costs with, for inputs with dynamic axes]:value:' \
                '(--batch-size)'--batch-size'[samples that run at once (default\: as many as fit 256 MB)]:value:' \
                '(--provider)'--provider'[onnxruntimes execution provider\: cpu (default), cuda, coreml, ...]:value:' \
                '(--seed)'--seed'[seed of which rows are taken (default 0)]:value:' \
                '(--output -o)'{-o,--output}'[the statistics (default MODEL.stats.npz beside the model, of a part]:file:_files' \
                '(--force)'--force'[overwrite a file that exists (never the model)]' \
                '(--json)'--json'[print what was taken as JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        sweep)
            shift words
            (( CURRENT-- ))
            _arguments \
                '*'--budgets'[a range of 7 budgets, 0.9..0.3 (default), of N, 0.9..0.3/N, or single]:value:' \
                '(--data)'--data'[samples\: as when pruning; without it, random inputs alone]:file:_files' \
                '(--holdout)'--holdout'[of --data, kept to measure on (default\: a fifth, at most 512 samples)]:value:' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file]:value:(imagenet clip)' \
                '(--labels)'--labels'[the array of labels (default\: labels, label, y, target or targets)]:value:' \
                '(--method)'--method'[how units are scored, as when pruning]:value:(auto bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda)' \
                '(--repair)'--repair'[least-squares, blocks, bias, none or auto, as when pruning]:value:(auto none bias least-squares blocks)' \
                '(--loss)'--loss'[auto, kl, mse, ce, or module\:function\: what methods differentiate]:value:(auto kl mse ce)' \
                '(--samples)'--samples'[show methods and repair only the first N samples (repair\: 256)]:value:' \
                '*'--option'[another of the methods options; may be repeated]:value:' \
                '*'--keep'[protect nodes and tensors whose names match; may be repeated]:value:' \
                '(--min-width)'--min-width'[units a group keeps at least (default 1); at 0 branches may go]:value:' \
                '(--multiple)'--multiple'[keep widths that are multiples of N (default auto\: as kernels like)]:value:' \
                '(--time-limit)'--time-limit'[look for better widths, and prove how good they are, for so long]:value:' \
                '(--allow-inexact)'--allow-inexact'[also prune across normalisations, whose statistics then change]' \
                '*'--prune'[prune these kinds of units only, such as heads,ffn]:value:(channels neurons heads head-dims hidden)' \
                '(--seed)'--seed'[seed of all that is random (default 0)]:value:' \
                '*'--input-shape'[sizes to count costs with, for inputs with dynamic axes]:value:' \
                '(--provider)'--provider'[onnxruntimes execution provider\: cpu (default), cuda, coreml, ...]:value:' \
                '(--threads)'--threads'[threads within an operator (default 1); 0\: as many as onnxruntime takes]:value:' \
                '(--batch)'--batch'[samples at once, where the model leaves that open (default 1)]:value:' \
                '(--profile)'--profile'[plan by a profile that graphprune profile wrote, perhaps elsewhere\: the]:file:_files' \
                '(--svg)'--svg'[the curve, as a picture]:file:_files' \
                '(--report)'--report'[all points with their widths, as JSON]:file:_files' \
                '(--html)'--html'[the curve and the widths as a page for a browser, in one file]:file:_files' \
                '(--force)'--force'[overwrite files that exist (never the input)]' \
                '(--json)'--json'[print JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '*:file:_files'
            ;;
        *)
            _arguments \
                '*'--budget'[0.5 (of the multiply-accumulates), macs=0.5, params=0.6, size=10MB]:value:' \
                '(--plan)'--plan'[follow a plan that --save-plan wrote, instead of scoring and solving]:file:_files' \
                '*'--keep'[protect nodes and tensors whose names match, such as *head*]:value:' \
                '(--min-width)'--min-width'[units a group keeps at least (default 1); at 0 branches may go]:value:' \
                '(--multiple)'--multiple'[keep widths that are multiples of N (default auto\: as kernels like)]:value:' \
                '(--time-limit)'--time-limit'[look for better widths, and prove how good they are, for so long]:value:' \
                '(--allow-inexact)'--allow-inexact'[also prune across normalisations, whose statistics then change]' \
                '*'--prune'[prune these kinds of units only\: channels, neurons (or ffn), heads]:value:(channels neurons heads head-dims hidden)' \
                '(--method)'--method'[how units are scored; graphprune passes lists the methods]:value:(auto bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda)' \
                '(--data)'--data'[samples, labelled or not\: an .npz (arrays by input name) or .npy file]:file:_files' \
                '(--repair)'--repair'[least-squares\: fit the weights that are left to what the original]:value:(auto none bias least-squares blocks)' \
                '(--holdout)'--holdout'[of --data, kept to measure on what pruning cost (default\: a fifth, at]:value:' \
                '(--preprocess)'--preprocess'[of images\: imagenet, clip, or a JSON or TOML file]:value:(imagenet clip)' \
                '(--labels)'--labels'[the array of labels (default\: labels, label, y, target or targets)]:value:' \
                '(--loss)'--loss'[auto, kl, mse, ce, or module\:function\: what methods differentiate]:value:(auto kl mse ce)' \
                '(--samples)'--samples'[show methods and repair only the first N samples (repair\: 256)]:value:' \
                '*'--option'[another of the methods options, such as beta=231; may be repeated]:value:' \
                '(--steps)'--steps'[approach the budget in N steps, scores taken anew in between]:value:' \
                '(--epochs)'--epochs'[train N epochs on --data between the steps, from the original as the]:value:' \
                '(--seed)'--seed'[seed of all that is random (default 0)]:value:' \
                '*'--input-shape'[sizes to count costs with, for inputs with dynamic axes; may be]:value:' \
                '(--provider)'--provider'[onnxruntimes execution provider\: cpu (default), cuda, coreml, ...]:value:' \
                '(--threads)'--threads'[threads within an operator (default 1); 0\: as many as onnxruntime takes]:value:' \
                '(--batch)'--batch'[samples at once, where the model leaves that open (default 1)]:value:' \
                '(--profile)'--profile'[plan by a profile that graphprune profile wrote, perhaps elsewhere\: the]:file:_files' \
                '(--output -o)'{-o,--output}'[the smaller model (default MODEL.pruned.onnx beside the input)]:file:_files' \
                '(--report)'--report'[what was cut, kept and why, as JSON]:file:_files' \
                '(--html)'--html'[the same as a page for a browser, in one file]:file:_files' \
                '(--save-plan)'--save-plan'[the units kept, as JSON, for --plan]:file:_files' \
                '(--force)'--force'[overwrite files that exist (never the input)]' \
                '(--dry-run)'--dry-run'[do everything but write]' \
                '(--json)'--json'[print the report as JSON on stdout, words on stderr]' \
                '(--quiet -q)'{-q,--quiet}'[print nothing but errors]' \
                '(--verbose -v)'{-v,--verbose}'[print every step, all widths, and everything that was not pruned]' \
                '(--help -h)'{-h,--help}'[print this]' \
                '(--version)'--version'[print the version]' \
                '*:file:_files'
            ;;
    esac
}

_graphprune "$@"
