"""How many voxels stacks have, and how many bytes results take, by hand."""

from workflow.lib import sizes
from workflow.lib.catalogue import Catalogue
from workflow.lib.models import level_options


def test_stacks_of_the_record(paper):
    neurons = sizes.stacks_of(paper, "fig4_neurons")
    assert (neurons.count, neurons.zyx_shape) == (27, (111, 1024, 1024))
    assert sizes.fine_voxels(paper, "fig4_neurons") == 27 * 333 * 1024**2


def test_beads_are_the_images_of_a_fold(paper):
    assert sizes.stacks_of(paper, "fig3_beads", "fold0").count == 3  # images 0, 4 and 5
    assert sizes.stacks_of(paper, "supp_mrf", "fold0").count == 3
    every = sizes.stacks_of(paper, "fig3_beads").count
    assert sizes.stacks_of(paper, "fig3_beads", "fold0").count < every <= 31


def test_simulated_stacks_have_the_phantoms_size_with_and_without_noise(paper, demo):
    stacks = sizes.stacks_of(paper, "fig2_phantoms")
    assert (stacks.count, stacks.zyx_shape) == (2 * 16, (400, 500, 500))
    assert sizes.stacks_of(paper, "fig2_angle45").count == 2 * 3  # a volume a seed
    assert sizes.stacks_of(paper, "fig2_angle45").zyx_shape == (300, 900, 900)
    assert sizes.stacks_of(paper, "supp_motion_none").count == 16
    assert sizes.stacks_of(demo, "fig4_neurons").zyx_shape == (40, 64, 64)


def test_phantoms(paper):
    assert sizes.phantoms_of_set(paper, "training").count == 20
    assert sizes.phantoms_of_set(paper, "tuning").voxels == 4 * 240**3


def test_results_take_what_their_levels_take(paper):
    voxels = sizes.fine_voxels(paper, "fig4_neurons")
    for method, of_a_voxel in (("tenet", sizes.PROBABILITY_BYTES), ("care", sizes.INTENSITY_BYTES)):
        found = sizes.bytes_of_predictions(paper, "fig4_neurons", method)
        assert found == voxels * of_a_voxel["profiles"]


def test_precision_ranks_in_more_levels_than_a_mask_needs(paper):
    assert level_options(paper, "fig2_phantoms", "tenet") == ["--levels", "16383"]
    assert level_options(paper, "fig2_phantoms", "rltv") == ["--levels", "1023"]
    assert level_options(paper, "fig3_beads", "rltv") == ["--levels", "65535"]
    assert level_options(paper, "fig5_microglia", "tenet") == ["--levels", "1023"]


def test_raw_stacks(paper):
    for source in ("microglia", "tumour"):
        assert sizes.bytes_of_source(paper, source) == 66 * 26 * 1972**2 * 2
    assert sizes.bytes_of_acquisitions(paper, "fig2_phantoms") == 32 * 400 * 500**2 * 2
    registered = sizes.bytes_of_registered(paper, "supp_motion_registered")
    assert registered == 16 * 400 * 500**2 * 4  # 32-bit floats


def with_config(catalogue, key, **values):
    changed = {**catalogue.config[key], **values}
    return Catalogue({**catalogue.config, key: changed}, {}, catalogue.root)


def test_a_limit_holds_for_stacks_that_are_expected(paper):
    limited = with_config(paper, "sources", neurons={"folder": "x", "limit": 5})
    assert sizes.stacks_of(limited, "fig4_neurons").count == 5
    another = with_config(paper, "sources", another={"folder": "x"})
    assert sizes.bytes_of_source(another, "another") == 0


def test_stacks_that_were_found_go_before_those_expected(paper, tmp_path):
    (tmp_path / "neurons.csv").write_text(
        "file,stack,planes,rows,columns\na.tif,a.ome.tif,90,512,512\n"
        "b.tif,,8,512,512\nc.tif,c.ome.tif,100,256,600\n"
    )
    fetched = with_config(paper, "zenodo", folder=str(tmp_path))
    assert sizes.stacks_of(fetched, "fig4_neurons") == sizes.Stacks(2, (100, 512, 600))
    assert sizes.fine_voxels(fetched, "fig4_neurons") == 2 * 300 * 512 * 600
