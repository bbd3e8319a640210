//! The shaders that decode stored weights: valid for every type, and right where there is a GPU.

use burn::tensor::Device;
use futures::executor::block_on;
use laminate::format::element::Element;
use laminate::internals::kernels::gpu::product::Tile;
use laminate::internals::kernels::gpu::{Shader, StoredRows};
use laminate::{Accelerator, Preference};

use crate::stored::{check_every_type, check_products, elements};

/// All shaders, with names for files.
fn sources() -> Vec<(String, String)> {
    let decode = elements().into_iter().map(|e| (e.to_string(), Shader::of(e).unwrap().source()));
    let mut all: Vec<(String, String)> = decode.collect();
    for tile in Tile::ALL {
        for element in elements().into_iter().chain([Element::F32]) {
            all.push((format!("product {element} {tile}").replace(' ', "-"), tile.source(element)));
        }
    }
    all
}

#[test]
fn every_shader_is_valid_and_needs_no_optional_feature() {
    for (name, source) in sources() {
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::empty(),
        );
        validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert!(!source.contains("enable "), "{name}");
    }
    assert!(Shader::of(Element::F32).is_none());
}

/// Chromium's compiler of shaders, which names what it finds; `TINT` says where it is.
#[test]
fn every_shader_compiles_in_chromium() {
    let tint = std::env::var("TINT").unwrap_or_else(|_| "tint".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let mut shaders = sources();
    shaders.push(("peak".to_owned(), include_str!("../../benches/gpu/peak.wgsl").to_owned()));
    for (name, source) in shaders {
        let path = folder.path().join(format!("{name}.wgsl"));
        std::fs::write(&path, source).unwrap();
        match std::process::Command::new(&tint).args(["--format", "wgsl"]).arg(&path).output() {
            Ok(done) => assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr)),
            Err(why) => return println!("SKIPPED: {tint} cannot be run ({why})"),
        }
    }
}

fn gpu() -> Option<Device> {
    match block_on(Accelerator::choose(Preference::Gpu)) {
        Ok(accelerator) => Some(accelerator.device().clone()),
        Err(why) => {
            println!("SKIPPED: {why}");
            None
        }
    }
}

#[test]
fn decoded_on_the_device_are_the_values_decoded_on_the_host() {
    if let Some(device) = gpu() {
        block_on(check_every_type(&device));
    }
}

#[test]
fn products_on_the_device_are_those_of_f64_by_every_tile() {
    if let Some(device) = gpu() {
        block_on(check_products(&device));
    }
}

/// What every WebGPU implementation grants: 16,384 bytes of memory and 256 invocations in a workgroup.
#[test]
fn tiles_fit_into_what_every_device_has() {
    for tile in Tile::ALL {
        assert!(16 * 4 * (tile.rows + tile.columns) + 12 <= 16_384 && tile.invocations() <= 256, "{tile}");
        assert_eq!(tile.invocations() % 32, 0, "{tile}");
    }
}

#[test]
fn what_no_shader_decodes_is_said() {
    let Some(device) = gpu() else { return };
    assert!(StoredRows::upload(Element::F32, &[0; 128], [1, 32], &device).is_none());
    assert!(StoredRows::upload(Element::F16, &[0; 66], [1, 33], &device).is_none());
}
