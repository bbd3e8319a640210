//! How many operations a GPU can do in `f32`, measured by a shader that only multiplies and adds in registers.

use std::time::Instant;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Cube, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};
use burn_cubecl::cubecl::ir::UIntKind;
use burn_cubecl::cubecl::ir::metadata::Info;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::KernelArguments;
use burn_cubecl::cubecl::{CubeKernel, PrecompiledSource};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;

const WORKGROUP: u32 = 64;
const WORKGROUPS: u32 = 8192;

/// Operations of an invocation in a round: eight vectors of four, multiplied and added.
const FLOP: f64 = 64.0;

/// Long enough that starting does not count.
const SECONDS: f64 = 0.2;

/// Floating-point operations per second.
pub fn peak(device: &Device) -> f64 {
    let mut rounds = 8;
    loop {
        run(device, rounds);
        let start = Instant::now();
        run(device, rounds);
        let seconds = start.elapsed().as_secs_f64();
        if seconds > SECONDS {
            return FLOP * f64::from(rounds) * f64::from(WORKGROUPS * WORKGROUP) / seconds;
        }
        rounds *= 2;
    }
}

fn run(device: &Device, rounds: i32) {
    let rounds = Tensor::<1, Int>::from_data(TensorData::new(vec![rounds], [1]), device).into_dispatch();
    let sums = Tensor::<1>::from_dispatch(<Dispatch as Register>::multiply_add(rounds));
    let first: f32 = sums.narrow(0, 0, 1).into_scalar();
    assert!(first.is_finite());
}

/// What burn is taught: the shader.
#[backend_extension(Cube)]
trait Register: Backend {
    /// One number of each invocation.
    fn multiply_add(rounds: IntTensor<Self>) -> FloatTensor<Self>;
}

impl Register for Cube {
    fn multiply_add(rounds: IntTensor<Self>) -> FloatTensor<Self> {
        let client = rounds.client.clone();
        let shape = Shape::from([(WORKGROUPS * WORKGROUP) as usize]);
        let sums = empty_device_contiguous_dtype(client.clone(), rounds.device.clone(), shape, DType::F32);
        client.launch(
            Box::new(Kernel),
            CubeCount::Static(WORKGROUPS, 1, 1),
            KernelArguments::new()
                .with_buffer(rounds.handle.clone().binding())
                .with_buffer(sums.handle.clone().binding()),
        );
        sums
    }
}

struct Kernel;

impl KernelMetadata for Kernel {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>()
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Kernel {
    fn define(&self) -> KernelDefinition {
        let settings =
            KernelSettings::new(CubeDim::new_1d(WORKGROUP).0, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        let source = include_str!("peak.wgsl").to_owned();
        Some(PrecompiledSource { source, entrypoint_name: "main".to_owned(), lang: "wgsl" })
    }
}
