"""Scans from files: orientations, grids, masks and slices, and back."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scans import AFFINES, blob, write_dicom, write_healthy_and_lesioned, write_nifti

from narrows.data import DataModule, Grid, Heads, Lesions, Slices, Volumes
from narrows.data.scan_files import find_scans, from_own_axes, read_scan, to_own_axes
from narrows.data.scan_grid import laid_into, resampled
from narrows.errors import UserError

pytest.importorskip("nibabel")


def test_a_scan_is_turned_and_turned_back(tmp_path: Path) -> None:
    import nibabel

    upright = blob((6, 5, 4)).astype(np.float32)  # right, front, head
    own = to_own_axes(upright)
    np.testing.assert_array_equal(from_own_axes(own), upright)
    assert own[-1, 0, 2] == upright[2, -1, -1]  # the head last, the front first
    for name, affine in AFFINES.items():
        orientation = nibabel.io_orientation(np.array(affine, float))
        back = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), orientation)
        path = write_nifti(tmp_path / f"{name}.nii", nibabel.apply_orientation(upright, back), name)
        scan = read_scan(str(path))
        np.testing.assert_array_equal(scan.values, own)
        copy = tmp_path / f"{name}_copy.nii.gz"
        copy.write_bytes(scan.encode(scan.values, ".nii.gz", str(copy)))
        first, second = nibabel.load(path), nibabel.load(copy)
        np.testing.assert_array_equal(np.asanyarray(first.dataobj), np.asanyarray(second.dataobj))
        np.testing.assert_array_equal(first.affine, second.affine)
    assert read_scan(str(tmp_path / "ras.nii")).spacing == (3, 2, 2)
    assert read_scan(str(tmp_path / "sagittal.nii")).spacing == (1.5, 2, 2.5)


def test_a_dicom_series_is_a_scan(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    stored = blob((7, 6, 5)).astype(np.int16)
    write_dicom(tmp_path / "ct", stored, 2.0, -1000.0)
    write_nifti(tmp_path / "other.nii", blob((3, 3, 3)))
    assert find_scans(tmp_path).files == [str(tmp_path / "ct"), str(tmp_path / "other.nii")]
    scan = read_scan(str(tmp_path / "ct"))
    # Rows go to the back and columns to the left of the patient, so that columns are turned.
    np.testing.assert_array_equal(scan.values, 2.0 * stored[:, :, ::-1] - 1000)
    assert scan.spacing == (3, 2, 1.5)
    (tmp_path / "ct" / "03.dcm").unlink()
    with pytest.raises(UserError, match="lie unevenly"):
        read_scan(str(tmp_path / "ct"))


@pytest.mark.parametrize("sides", [(4, 6, 5), (9, 12, 7), (3, 6, 20)])
def test_resampling_keeps_constants_and_means(sides: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).random((8, 6, 10))
    assert resampled(np.full((8, 6, 10), 0.7), sides) == pytest.approx(0.7)
    if all(new <= old for new, old in zip(sides, values.shape, strict=True)):
        assert resampled(values, sides).mean() == pytest.approx(values.mean())
    line = np.linspace(0, 1, 10)[None, None] * np.ones((2, 2, 1))
    finer = resampled(line, (2, 2, 20))[0, 0]
    np.testing.assert_allclose(np.diff(finer[1:-1]), 1 / 18, rtol=1e-9)  # a slope stays one


def test_halving_is_the_mean_of_pairs() -> None:
    values = np.random.default_rng(0).random((4, 4, 4))
    halves = values.reshape(2, 2, 2, 2, 2, 2).mean((1, 3, 5))
    np.testing.assert_allclose(resampled(values, (2, 2, 2)), halves)


def test_what_is_cut_and_filled_lies_in_the_middle() -> None:
    values = np.arange(24.0).reshape(4, 3, 2)
    found = laid_into(values, (2, 5, 2), -1.0)
    np.testing.assert_array_equal(found[:, 1:4], values[1:3])
    assert (found[:, [0, 4]] == -1).all()
    np.testing.assert_array_equal(laid_into(laid_into(values, (6, 5, 4), 0.0), (4, 3, 2), 0.0), values)


def test_a_grid_gives_back_what_it_took(tmp_path: Path) -> None:
    scan = read_scan(str(write_nifti(tmp_path / "a.nii", blob((12, 10, 8)))))
    for grid in (Grid(window=None), Grid(window=[-50, 2000]), Grid(window=[-50, 2000], size=16)):
        made = grid.fit(scan, "a")
        assert made.dtype == np.float32
        np.testing.assert_allclose(grid.back(made, scan, "a"), scan.values, rtol=1e-5, atol=1e-3)
    made = Grid().fit(scan, "a")
    assert (made.min(), made.max()) == (0, 1)
    coarse = Grid(spacing=4.0)
    assert coarse.fit(scan, "a").shape == (6, 5, 6)
    assert coarse.back(coarse.fit(scan, "a"), scan, "a").shape == scan.values.shape


def test_slices_join_to_their_volume() -> None:
    volume = np.random.default_rng(0).random((4, 5, 6))
    for plane, shape in {"axial": (4, 5, 6), "coronal": (5, 4, 6), "sagittal": (6, 4, 5)}.items():
        slices = Slices(plane)  # type: ignore[arg-type]
        assert slices.of(volume).shape == shape
        np.testing.assert_array_equal(slices.joined(slices.of(volume)), volume)
    assert list(Slices("axial", 0.25).kept(8)) == [2, 3, 4, 5]
    assert Slices("coronal").of(volume)[2, 0, 3] == volume[-1, 2, 3]  # the head at the top


def test_healthy_and_lesioned_scans_with_masks(tmp_path: Path) -> None:
    root = write_healthy_and_lesioned(tmp_path)
    contents = Volumes(str(root)).load()
    assert contents.kind == "volume"
    assert contents.class_names == ["good", "lesion"]
    assert contents.train_labels == [0]
    test = contents.test
    assert test is not None
    assert test.label is not None
    assert test.label.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.x.shape == (6, 1, 8, 10, 12)
    assert test.anomalous is not None
    flags = test.anomalous.take(slice(None)) > 0
    assert flags.flatten(1).sum(1).tolist() == [0, 0, 0, 18, 18, 18]
    # A lesion of half the brightness: inside its mask a scan is darker than a healthy one.
    x = test.x.take(slice(None))
    assert (x[3][flags[3]] < 0.7 * x[0][flags[3]]).all()


def test_the_slices_of_a_scan_stay_together(tmp_path: Path) -> None:
    root = write_healthy_and_lesioned(tmp_path)
    data = DataModule(Volumes(str(root), slices=Slices("axial", 0.2)), validation=0.25)
    data.setup()
    assert data.spec.kind == "image"
    assert data.spec.shape == (1, 10, 12)
    train, held = ({name.split(":")[0] for name in data.part(split).names or []} for split in ("train", "validation"))
    assert not train & held
    assert len(train | held) == 24
    test = data.part("test")
    assert test.names is not None
    assert test.names[0] == "good/0.nii.gz:axial 1"
    assert test.anomalous is not None
    marked = (test.anomalous.take(slice(None)) > 0).flatten(1).any(1)
    assert test.label is not None
    assert torch.equal(test.label == 1, marked), "a slice without a lesion is normal"


def test_the_last_slices_of_a_single_scan_are_held_out(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a#1.nii", blob((6, 5, 20)))
    data = DataModule(Volumes(str(path), slices=Slices("axial"), test=0.2), validation=0.2)
    data.setup()
    train, test = ([int(name.split()[-1]) for name in data.part(split).names or []] for split in ("train", "test"))
    assert test == [16, 17, 18, 19]
    assert train == list(range(11))  # 12 to 14 validate; 11 and 15 lie between


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a" / "1.nii", blob((4, 5, 6)))
    write_nifti(tmp_path / "a" / "2.nii", blob((4, 5, 7)))
    with pytest.raises(UserError, match=r"set source\.grid\.size"):
        Volumes(str(tmp_path / "a")).load()
    assert Volumes(str(tmp_path / "a"), Grid(size=[6, 5, 4])).load().train.x.shape == (2, 1, 6, 5, 4)
    write_nifti(tmp_path / "b" / "1.nii", blob((4, 5, 6))[..., None] * np.ones(2))
    with pytest.raises(UserError, match="one volume of three axes"):
        Volumes(str(tmp_path / "b")).load()
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(UserError, match=r"datamodule=arrays datamodule\.source\.kind=volume"):
        Volumes(str(tmp_path / "c.npy")).load()
    np.save(tmp_path / "d.npy", np.zeros((3, 4, 5)))
    with pytest.raises(UserError, match="does not say how large its voxels are"):
        Volumes(str(tmp_path / "d.npy"), Grid(spacing=2.0)).load()
    (tmp_path / "e.nii").write_bytes(b"no scan")
    with pytest.raises(UserError, match="no NIfTI file that can be read"):
        Volumes(str(tmp_path / "e.nii")).load()
    root = write_healthy_and_lesioned(tmp_path / "masks")
    (root / "ground_truth" / "lesion" / "4_mask.nii.gz").unlink()
    with pytest.raises(UserError, match="has no mask"):
        Volumes(str(root)).load()


@pytest.mark.parametrize(
    "options", [{"size": [4, 4]}, {"size": 0}, {"spacing": -1.0}, {"window": [2.0, 1.0]}, {"window": "all"}]
)
def test_a_grid_that_means_nothing_is_refused(options: dict) -> None:
    with pytest.raises(UserError, match=r"source\.grid"):
        Grid(**options)


def test_generated_lesions_are_where_their_masks_say(tmp_path: Path) -> None:
    # A template of two tissues, so that no wheel is needed.
    template = np.zeros((40, 44, 36))
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, side) for side in template.shape), indexing="ij")
    template[sum(axis**2 for axis in axes) < 1] = 0.5
    path = write_nifti(tmp_path / "template.nii", template)
    heads = Heads(train=3, healthy=2, lesioned=3, contrast=[0.3, 0.4], radius=[6.0, 12.0])
    grid = Grid(spacing=4.0, window=[0, 1])
    made = [Lesions(str(path), grid, heads=heads).load() for _ in range(2)]
    assert made[0].identity == made[1].identity
    test = made[0].test
    assert test is not None
    assert test.anomalous is not None
    assert test.label is not None
    assert test.label.tolist() == [0, 0, 1, 1, 1]
    x, flags = test.x.take(slice(None)), test.anomalous.take(slice(None)) > 0
    assert torch.equal(x, made[1].test.x.take(slice(None)))  # type: ignore[union-attr]
    assert not flags[:2].any()
    assert flags[2:].flatten(1).any(1).all()
    inside = x > 0.2
    for one, marked, brain in zip(x[2:], flags[2:], inside[2:], strict=True):
        usual = one[brain & ~marked].median()
        assert (one[marked] - usual).abs().mean() > 2 * (one[brain & ~marked] - usual).abs().mean()
    # All heads differ, and so do their seeds'.
    every = torch.cat([x, made[0].train.x.take(slice(None))])
    assert all((one - other).abs().max() > 0.05 for one, other in itertools.combinations(every, 2))
    assert Lesions(str(path), grid, heads=heads, seed=1).load().identity != made[0].identity


def test_voxels_have_the_headers_unit(tmp_path: Path) -> None:
    import nibabel

    for unit, wide in (("mm", 2.0), ("micron", 2000.0), ("meter", 0.002), ("unknown", 2.0)):
        image = nibabel.Nifti1Image(blob((6, 4, 4)).astype(np.float32), np.diag([wide, wide, wide, 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / "a.nii")
        scan = read_scan(str(tmp_path / "a.nii"))
        assert scan.spacing == pytest.approx((2, 2, 2))
        assert Grid(spacing=4).fit(scan, "a.nii").shape == (2, 2, 3)
        (tmp_path / "b.nii").write_bytes(scan.encode(scan.values, ".nii", "b.nii"))
        np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").affine, nibabel.load(tmp_path / "a.nii").affine)
    huge = write_nifti(tmp_path / "c.nii", np.zeros((6, 5, 4), np.float32))
    with pytest.raises(UserError, match=r"c\.nii has voxels of 3 x 2 x 2 mm, and would have 12,000 x"):
        Grid(spacing=0.001).fit(read_scan(str(huge)), str(huge))


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    """Both would be turned by what they say of themselves, so that the marks would lie on other voxels."""
    import nibabel

    write_healthy_and_lesioned(tmp_path, 3)
    for file in (tmp_path / "test" / "lesion").iterdir():
        mask = np.asanyarray(nibabel.load(tmp_path / "ground_truth" / "lesion" / f"{file.name[0]}_mask.nii.gz").dataobj)
        write_nifti(file, np.asanyarray(nibabel.load(file).dataobj), "lps")
        write_nifti(tmp_path / "ground_truth" / "lesion" / f"{file.name[0]}_mask.nii.gz", mask, "lps")
    found = Volumes(str(tmp_path)).load().test
    assert found is not None
    assert found.anomalous is not None
    write_nifti(tmp_path / "ground_truth" / "lesion" / "4_mask.nii.gz", mask, "ras")
    with pytest.raises(UserError, match=r"4_mask\.nii\.gz does not say that its voxels lie as those of .*4\.nii\.gz"):
        Volumes(str(tmp_path)).load()
    (tmp_path / "ground_truth" / "lesion" / "4_mask.nii.gz").unlink()
    np.save(tmp_path / "ground_truth" / "lesion" / "4_mask.npy", to_own_axes(mask))
    with pytest.raises(UserError, match=r"4_mask\.npy does not say that its voxels lie as those of"):
        Volumes(str(tmp_path)).load()


def test_a_tilted_series_keeps_its_tilt(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    folder = write_dicom(tmp_path / "tilted", values, tilt=1.0)
    affine = read_scan(str(folder)).header.get_best_affine()
    # From slice to slice 1 mm to the back, which is minus 1 in NIfTI's axes, and 3 to the head.
    np.testing.assert_allclose(affine[:3, 2], [0, -1, 3])
    np.testing.assert_allclose(affine[:3, 3], [10, 20, 0])
    np.testing.assert_allclose(affine[:3, :2].T, [[-1.5, 0, 0], [0, -2, 0]])
