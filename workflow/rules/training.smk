# Pre-training on phantoms, and fine-tuning on raw stacks; they start early, as most waits for them.
# An interrupted training goes on where it was: its checkpoint is no declared output, so that
# Snakemake leaves it alone.


rule pretrain:
    input:
        experiment=lambda wildcards: samples.own_settings(catalogue, wildcards.model),
        phantoms=lambda wildcards: models.training_set(catalogue, wildcards.model, "phantoms"),
        tuning=lambda wildcards: models.training_set(catalogue, wildcards.model, "tuning"),
        start=lambda wildcards: models.start_of(catalogue, wildcards.model),
    output:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        provenance=report(
            "<results>/models/{model}/provenance.json",
            category="Provenance",
            labels={"model": "{model}"},
        ),
        history="<results>/models/{model}/history.csv",
        threshold="<results>/models/{model}/threshold.json",
        psf="<results>/models/{model}/psf.csv",
        optimiser="<results>/models/{model}/optimiser.pt",
        fisher="<results>/models/{model}/fisher.pt",
    log:
        "<logs>/pretrain/{model}.log",
    benchmark:
        "<benchmarks>/pretrain/{model}.tsv"
    priority: 3
    conda:
        "../../envs/tenet.yaml"
    threads: lambda wildcards: machine.threads_of(wildcards.model)
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: settings(
            catalogue, samples.experiment_name(catalogue, wildcards.model), "pretrain"
        ),
        code=following("pretrain"),
        experiment=lambda wildcards, input: samples.experiment_argument(
            catalogue, wildcards.model, input.experiment
        ),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        start=lambda wildcards, input: models.start_option(input.start),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet pretrain {params.experiment:q}"
        " --phantoms {params.phantoms:q} --tuning {params.tuning:q} --out {params.out:q}"
        " {params.start:q} --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


# A pre-trained model and the network that aligns planes before its encoder.
rule align:
    input:
        pretrained=lambda wildcards: models.pretrained_files(
            catalogue,
            wildcards.model,
            "model.pt",
            "experiment.json",
            "optimiser.pt",
            "fisher.pt",
            "history.csv",
        ),
        phantoms=lambda wildcards: models.training_set(catalogue, wildcards.model, "phantoms"),
        tuning=lambda wildcards: models.training_set(catalogue, wildcards.model, "tuning"),
    output:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        provenance="<results>/models/{model}/provenance.json",
        history="<results>/models/{model}/history.csv",
        alignment="<results>/models/{model}/alignment/history.csv",
        threshold="<results>/models/{model}/threshold.json",
        psf="<results>/models/{model}/psf.csv",
        optimiser="<results>/models/{model}/optimiser.pt",
        fisher="<results>/models/{model}/fisher.pt",
    log:
        "<logs>/align/{model}.log",
    benchmark:
        "<benchmarks>/align/{model}.tsv"
    wildcard_constraints:
        model=names(models.aligned_models(catalogue)),
    priority: 3
    conda:
        "../../envs/tenet.yaml"
    threads: machine.training_threads
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: settings(catalogue, wildcards.model, "align"),
        code=following("align"),
        overlays=catalogue.overlays,
        pretrained=lambda wildcards, input: str(Path(input.pretrained[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet align {wildcards.model:q} {params.overlays:q}"
        " --pretrained {params.pretrained:q} --phantoms {params.phantoms:q}"
        " --tuning {params.tuning:q} --out {params.out:q}"
        " --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


ruleorder: align > pretrain


rule finetune:
    input:
        experiment=lambda wildcards: samples.own_settings(catalogue, wildcards.experiment),
        data=lambda wildcards: models.finetune_data(catalogue, wildcards.experiment),
        checked=lambda wildcards: [
            ancient(path) for path in samples.sample_record(catalogue, wildcards.experiment)
        ],
        rois=lambda wildcards: models.finetune_rois(catalogue, wildcards.experiment),
        pretrained=lambda wildcards: models.starting_point(catalogue, wildcards.experiment),
        phantoms=lambda wildcards: models.training_set(
            catalogue, models.pretrained_of(catalogue, wildcards.experiment), "phantoms"
        ),
        tuning=lambda wildcards: models.training_set(
            catalogue, models.pretrained_of(catalogue, wildcards.experiment), "tuning"
        ),
    output:
        model="<results>/models/{experiment}/{fold}/model.pt",
        experiment="<results>/models/{experiment}/{fold}/experiment.json",
        provenance="<results>/models/{experiment}/{fold}/provenance.json",
        history="<results>/models/{experiment}/{fold}/history.csv",
        threshold="<results>/models/{experiment}/{fold}/threshold.json",
        psf="<results>/models/{experiment}/{fold}/psf.csv",
    log:
        "<logs>/finetune/{experiment}/{fold}.log",
    benchmark:
        "<benchmarks>/finetune/{experiment}/{fold}.tsv"
    priority: 2
    conda:
        "../../envs/tenet.yaml"
    threads: lambda wildcards: machine.threads_of(wildcards.experiment)
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        seed=config["seed"],
        settings=lambda wildcards: finetune_settings(catalogue, wildcards.experiment),
        code=following("finetune"),
        train=lambda wildcards: models.train_option(catalogue, wildcards.experiment),
        reading=lambda wildcards: samples.reading_options(
            samples.sample_of(catalogue, wildcards.experiment)
        ),
        experiment=lambda wildcards, input: samples.experiment_argument(
            catalogue, wildcards.experiment, input.experiment
        ),
        data=lambda wildcards, input: models.finetune_options(
            catalogue, wildcards.experiment, input.data, wildcards.fold
        ),
        pretrained=lambda wildcards, input: str(Path(input.pretrained[0]).parent),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
        tuning=lambda wildcards, input: without_suffix(input.tuning),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet finetune {params.experiment:q} {params.train:q} {params.data:q}"
        " --pretrained {params.pretrained:q} --phantoms {params.phantoms:q}"
        " --tuning {params.tuning:q} --out {params.out:q}"
        " --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


# The model of every microscope that comes with TENET: PSF and noise alone are found in the stacks.
rule learn:
    input:
        model=lambda wildcards: models.files_of_box(),
        data=lambda wildcards: models.finetune_data(catalogue, wildcards.experiment),
    output:
        model="<results>/models/served/{experiment}/model.pt",
        experiment="<results>/models/served/{experiment}/experiment.json",
        provenance="<results>/models/served/{experiment}/provenance.json",
        history="<results>/models/served/{experiment}/history.csv",
        threshold="<results>/models/served/{experiment}/threshold.json",
        psf="<results>/models/served/{experiment}/psf.csv",
    log:
        "<logs>/learn/{experiment}.log",
    benchmark:
        "<benchmarks>/learn/{experiment}.tsv"
    wildcard_constraints:
        experiment=names(catalogue.experiments),
    priority: 2
    conda:
        "../../envs/tenet.yaml"
    threads: machine.training_threads
    resources:
        mem_mb=16000,
        runtime=240,
        gpu=1,
    params:
        seed=config["seed"],
        code=following("learn"),
        stacks=lambda wildcards, input: stacks.noisy_folder(
            catalogue, wildcards.experiment, input.data
        ),
        told=lambda wildcards: models.box_options(catalogue, wildcards.experiment),
        box=lambda wildcards, input: str(Path(input.model[0]).parent),
        out=subpath(output.model, parent=True),
    shell:
        "python workflow/scripts/on_device.py {resources.gpu}"
        " python -m tenet learn {params.stacks:q} {params.told:q} --model {params.box:q}"
        " --out {params.out:q} --seed {params.seed:q} --threads {threads} > {log:q} 2>&1"


# In place of a training with the published settings: a file of weights of the published code.
rule import_weights:
    input:
        weights=lambda wildcards: catalogue.imported(wildcards.model),
    output:
        model="<results>/models/{model}/model.pt",
        experiment="<results>/models/{model}/experiment.json",
        provenance="<results>/models/{model}/provenance.json",
        threshold="<results>/models/{model}/threshold.json",
        psf="<results>/models/{model}/psf.csv",
    log:
        "<logs>/import_weights/{model}.log",
    benchmark:
        "<benchmarks>/import_weights/{model}.tsv"
    wildcard_constraints:
        model=names(models.imported_models(catalogue)),
    priority: 3
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=lambda wildcards: models.settings_of_import(catalogue, wildcards.model),
        code=following("import_weights"),
        experiment=lambda wildcards: samples.experiment_argument(
            catalogue, models.experiment_of_model(wildcards.model), []
        ),
        out=subpath(output.model, parent=True),
    shell:
        "python -m tenet import-weights {input.weights:q} {params.experiment:q}"
        " --out {params.out:q} > {log:q} 2>&1"


ruleorder: import_weights > pretrain
ruleorder: import_weights > finetune
