# Raw stacks: from Zenodo, or simulated by a microscope that the models are not told of.


rule zenodo_record:
    output:
        checksums="<zenodo>/md5sums.txt",
    log:
        "<logs>/zenodo_record.log",
    benchmark:
        "<benchmarks>/zenodo_record.tsv"
    retries: 2
    conda:
        "../../envs/zenodo.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        record=config["zenodo"]["record"],
        mirror=(
            f"--mirror {shlex.quote(config['zenodo']['mirror'])}"
            if config["zenodo"]["mirror"]
            else ""
        ),
        downloads=lambda wildcards, output: str(Path(output.checksums).parent / "files"),
    shell:
        "python workflow/scripts/zenodo.py download {params.record}"
        " --to {params.downloads:q} {params.mirror} > {log} 2>&1"
        " && cp {params.downloads:q}/md5sums.txt {output.checksums:q}"


rule zenodo_folder:
    input:
        "<zenodo>/md5sums.txt",
    output:
        folder=directory("<zenodo>/{set}"),
        checksums="<zenodo>/{set}.sha256",
    log:
        "<logs>/zenodo_folder/{set}.log",
    benchmark:
        "<benchmarks>/zenodo_folder/{set}.tsv"
    wildcard_constraints:
        set=names(config["zenodo"]["folders"]),
    conda:
        "../../envs/zenodo.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=120,
    params:
        pattern=lambda wildcards: config["zenodo"]["folders"][wildcards.set],
        downloads=lambda wildcards, input: str(Path(input[0]).parent / "files"),
    shell:
        "(python workflow/scripts/zenodo.py folder {params.pattern:q}"
        " --downloads {params.downloads:q} --out {output.folder:q}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log} 2>&1"


rule simulate:
    input:
        phantoms=lambda wildcards: phantoms_of(wildcards.experiment),
    output:
        folder=directory("<results>/acquisitions/{experiment}"),
        checksums="<results>/acquisitions/{experiment}.sha256",
    log:
        "<logs>/simulate/{experiment}.log",
    benchmark:
        "<benchmarks>/simulate/{experiment}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: INFERENCE_THREADS
    resources:
        mem_mb=32000,
        runtime=240,
    params:
        options=simulate_options,
        overlays=OVERLAYS,
        seed=config["seed"],
        settings=lambda wildcards: settings(wildcards.experiment, "simulate"),
        code=code("simulate"),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
    shell:
        "(python -m tenet simulate {wildcards.experiment} {params.overlays} {params.options}"
        " --phantoms {params.phantoms:q} --out {output.folder:q} --seed {params.seed}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log} 2>&1"
