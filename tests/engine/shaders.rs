//! The shaders that decode stored weights: valid for every type, and right where there is a GPU.

use burn::tensor::Device;
use futures::executor::block_on;
use laminate::format::element::Element;
use laminate::internals::kernels::gpu::{Shader, StoredRows};
use laminate::{Accelerator, Preference};

use crate::stored::{check_every_type, elements};

#[test]
fn every_shader_is_valid_and_needs_no_optional_feature() {
    for element in elements() {
        let source = Shader::of(element).unwrap().source();
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{element}: {e}"));
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::empty(),
        );
        validator.validate(&module).unwrap_or_else(|e| panic!("{element}: {e:?}"));
        assert!(!source.contains("enable "), "{element}");
    }
    assert!(Shader::of(Element::F32).is_none());
}

/// Chromium's compiler of shaders, which names what it finds; `TINT` says where it is.
#[test]
fn every_shader_compiles_in_chromium() {
    let tint = std::env::var("TINT").unwrap_or_else(|_| "tint".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let mut shaders: Vec<(String, String)> = elements()
        .into_iter()
        .map(|element| (element.to_string(), Shader::of(element).unwrap().source()))
        .collect();
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
fn what_no_shader_decodes_is_said() {
    let Some(device) = gpu() else { return };
    assert!(StoredRows::upload(Element::F32, &[0; 128], [1, 32], &device).is_none());
    assert!(StoredRows::upload(Element::F16, &[0; 66], [1, 33], &device).is_none());
}
