//! The shaders that decode stored weights: valid for every type, and right where there is a GPU.

mod stored;

use burn::tensor::Device;
use futures::executor::block_on;
use laminate::device::{Accelerator, Preference};
use laminate::format::element::Element;
use laminate::model::dequantise::{Shader, StoredRows};
use stored::{check_every_type, elements};

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
