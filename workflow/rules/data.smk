# Raw stacks: from Zenodo, or simulated by a microscope other than the nominal one.


rule zenodo_manifest:
    output:
        manifest="<zenodo>/manifest.csv",
    log:
        "<logs>/zenodo_manifest.log",
    benchmark:
        "<benchmarks>/zenodo_manifest.tsv"
    retries: 2
    conda:
        "../../envs/zenodo.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        record=config["zenodo"]["record"],
        mirror=stacks.mirror_option(catalogue),
    shell:
        "python workflow/scripts/zenodo.py manifest {params.record:q} {params.mirror:q}"
        " --out {output.manifest:q} > {log:q} 2>&1"


# What the experiments of a source need is downloaded, listed, checked and written as stacks, before
# anything is trained on it. Archives stay, so that a slip costs no second download; what has
# arrived of one that was cut off stays too. The list of what was found is shown as well as logged.
rule source:
    input:
        manifest=ancient("<zenodo>/manifest.csv"),
        rois=lambda wildcards: stacks.source_rois(catalogue, wildcards.source),
    output:
        folder=directory("<zenodo>/{source}"),
        checksums="<zenodo>/{source}.sha256",
        found=report(
            "<zenodo>/{source}.csv",
            caption="../report/source.rst",
            category="Provenance",
            labels={"source": "{source}"},
        ),
    log:
        "<logs>/source/{source}.log",
    benchmark:
        "<benchmarks>/source/{source}.tsv"
    wildcard_constraints:
        source=names(config["sources"]),
    priority: 4
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=1440,
    params:
        specification=lambda wildcards: stacks.source_specification(catalogue, wildcards.source),
        code=following("source"),
        downloads=f"{config['zenodo']['folder']}/files",
    shell:
        "(python workflow/scripts/source.py --specification {params.specification:q}"
        " --manifest {input.manifest:q} --downloads {params.downloads:q}"
        " --out {output.folder:q} --listing {output.found:q}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " 2>&1 | tee {log:q} >&2"


rule simulate:
    input:
        phantoms=lambda wildcards: stacks.phantoms_of(catalogue, wildcards.experiment),
    output:
        folder=directory("<results>/acquisitions/{experiment}"),
        checksums="<results>/acquisitions/{experiment}.sha256",
    log:
        "<logs>/simulate/{experiment}.log",
    benchmark:
        "<benchmarks>/simulate/{experiment}.tsv"
    priority: 4
    conda:
        "../../envs/tenet.yaml"
    threads: machine.inference_threads
    resources:
        mem_mb=28000,
        runtime=240,
    params:
        options=lambda wildcards: stacks.simulate_options(catalogue, wildcards.experiment),
        overlays=catalogue.overlays,
        seed=config["seed"],
        settings=lambda wildcards: settings(catalogue, wildcards.experiment, "simulate"),
        code=following("simulate"),
        phantoms=lambda wildcards, input: without_suffix(input.phantoms),
    shell:
        "(python -m tenet simulate {wildcards.experiment:q} {params.overlays:q} {params.options:q}"
        " --phantoms {params.phantoms:q} --out {output.folder:q} --seed {params.seed:q}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"


# Planes laid on one another, for experiments with `register`.
rule register:
    input:
        data=lambda wildcards: stacks.taken(catalogue, wildcards.experiment),
    output:
        folder=directory("<results>/registered/{experiment}"),
        checksums="<results>/registered/{experiment}.sha256",
    log:
        "<logs>/register/{experiment}.log",
    benchmark:
        "<benchmarks>/register/{experiment}.tsv"
    conda:
        "../../envs/tenet.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=480,
    params:
        code=following("register"),
        motion=lambda wildcards: catalogue.experiments[wildcards.experiment]["register"],
        voxels=lambda wildcards: list(
            map(str, resolved(catalogue, wildcards.experiment).params.coarse_voxel_size_um)
        ),
        data=lambda wildcards, input: without_suffix(input.data),
    shell:
        "(python -m tenet register {params.data:q} --motion {params.motion:q}"
        " --voxel-size {params.voxels:q} --out {output.folder:q}"
        " && python workflow/scripts/checksums.py {output.folder:q} {output.checksums:q})"
        " > {log:q} 2>&1"
