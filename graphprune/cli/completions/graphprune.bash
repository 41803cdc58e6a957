# Completion of graphprune for bash: made by python -m graphprune.cli.completion, do not edit.

_graphprune() {
    local current="${COMP_WORDS[COMP_CWORD]}"
    local before="${COMP_WORDS[COMP_CWORD - 1]}" command="${COMP_WORDS[1]}"
    local words="" names="" values="" files=""
    case "$command" in
        bench)
            words='--provider --threads --batch --input-shape --data --preprocess --seconds --nodes --seed --report --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --preprocess) values='imagenet clip' ;;
                --data|--report) files=only ;;
                --provider|--threads|--batch|--input-shape|--seconds|--seed) values=- ;;
            esac
            ;;
        compare)
            words='--data --preprocess --labels --samples --seed --input-shape --run --html --report --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --preprocess) values='imagenet clip' ;;
                --data|--run|--html|--report) files=only ;;
                --labels|--samples|--seed|--input-shape) values=- ;;
            esac
            ;;
        completion)
            words='--install --output -o --force --quiet -q --help -h'
            case "$before" in
                --output|-o) files=only ;;
            esac
            [[ -z $values && -z $files ]] && names='bash zsh fish' && files=no
            ;;
        figures)
            words='--output -o --format --only --dpi --force --quiet -q --help -h'
            case "$before" in
                --format) values='svg pdf png' ;;
                --only) values='widths scores latency curve' ;;
                --output|-o) files=only ;;
                --dpi) values=- ;;
            esac
            ;;
        finetune)
            words='--data --teacher --labels --preprocess --holdout --loss --temperature --label-weight --epochs --lr --warmup --optimizer --weight-decay --batch-size --patience --batch-norm --precision --device --seed --output -o --checkpoint --checkpoint-every --restart --report --html --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --preprocess) values='imagenet clip' ;;
                --loss) values='auto kl mse ce' ;;
                --optimizer) values='adamw sgd' ;;
                --batch-norm) values='auto train freeze' ;;
                --precision) values='auto 32 bf16 fp16' ;;
                --device) values='auto cpu cuda' ;;
                --data|--teacher|--output|-o|--checkpoint|--report|--html) files=only ;;
                --labels|--holdout|--temperature|--label-weight|--epochs|--lr|--warmup|--weight-decay|--batch-size|--patience|--seed|--checkpoint-every) values=- ;;
            esac
            ;;
        inspect)
            words='--keep --allow-inexact --prune --input-shape --html --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --prune) values='channels neurons heads head-dims hidden' ;;
                --html) files=only ;;
                --keep|--input-shape) values=- ;;
            esac
            ;;
        passes)
            words='--json --help -h'
            case "$before" in
            esac
            [[ -z $values && -z $files ]] && names='bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda' && files=no
            ;;
        profile)
            words='--provider --threads --batch --input-shape --no-cache --keep --allow-inexact --prune --output -o --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --prune) values='channels neurons heads head-dims hidden' ;;
                --output|-o) files=only ;;
                --provider|--threads|--batch|--input-shape|--keep) values=- ;;
            esac
            ;;
        report)
            words='--output -o --force --quiet -q --help -h'
            case "$before" in
                --output|-o) files=only ;;
            esac
            ;;
        stats)
            words='--data --preprocess --samples --rows --merge --allow-inexact --input-shape --batch-size --provider --seed --output -o --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --preprocess) values='imagenet clip' ;;
                --data|--merge|--output|-o) files=only ;;
                --samples|--rows|--input-shape|--batch-size|--provider|--seed) values=- ;;
            esac
            ;;
        sweep)
            words='--budgets --data --holdout --preprocess --labels --method --repair --loss --samples --option --keep --min-width --multiple --time-limit --allow-inexact --prune --seed --input-shape --provider --threads --batch --profile --svg --report --html --force --json --quiet -q --verbose -v --help -h'
            case "$before" in
                --preprocess) values='imagenet clip' ;;
                --method) values='auto bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda' ;;
                --repair) values='auto none bias least-squares blocks' ;;
                --loss) values='auto kl mse ce' ;;
                --prune) values='channels neurons heads head-dims hidden' ;;
                --data|--profile|--svg|--report|--html) files=only ;;
                --budgets|--holdout|--labels|--samples|--option|--keep|--min-width|--multiple|--time-limit|--seed|--input-shape|--provider|--threads|--batch) values=- ;;
            esac
            ;;
        *)
            words='--budget --plan --keep --min-width --multiple --time-limit --allow-inexact --prune --method --data --repair --holdout --preprocess --labels --loss --samples --option --steps --epochs --seed --input-shape --provider --threads --batch --profile --output -o --report --html --save-plan --force --dry-run --json --quiet -q --verbose -v --help -h --version'
            case "$before" in
                --prune) values='channels neurons heads head-dims hidden' ;;
                --method) values='auto bn coreset fisher flap fpgm itpruner l1 l2 lamp magnitude obd obs obspa osscar random sbp taylor taylor-weight thinet vib wanda' ;;
                --repair) values='auto none bias least-squares blocks' ;;
                --preprocess) values='imagenet clip' ;;
                --loss) values='auto kl mse ce' ;;
                --plan|--data|--profile|--output|-o|--report|--html|--save-plan) files=only ;;
                --budget|--keep|--min-width|--multiple|--time-limit|--holdout|--labels|--samples|--option|--steps|--epochs|--seed|--input-shape|--provider|--threads|--batch) values=- ;;
            esac
            ;;
    esac
    (( COMP_CWORD == 1 )) && names='inspect compare bench profile report figures passes sweep stats finetune completion'
    [[ $current == -* ]] || words="$names"
    if [[ $values == - ]]; then COMPREPLY=(); return; fi
    if [[ -n $values ]]; then mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current"); return; fi
    COMPREPLY=()
    [[ $files != only ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [[ $files == only || ( $files != no && $current != -* ) ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
    fi
}
complete -F _graphprune graphprune
