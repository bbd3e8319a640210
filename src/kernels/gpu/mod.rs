//! Decoding of stored weights to `f32` on a GPU, and products with them, by our own shaders.
//!
//! Weights are uploaded in their stored form, and a few rows at a time are decoded just before they are
//! multiplied: a quantised matrix never exists in `f32` as a whole, and no buffer exceeds the limits that
//! every WebGPU implementation grants. The shaders use neither half-precision arithmetic nor subgroups.

pub mod product;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Cube, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};
use burn_cubecl::cubecl::ir::UIntKind;
use burn_cubecl::cubecl::ir::metadata::Info;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::KernelArguments;
use burn_cubecl::cubecl::{CubeKernel, PrecompiledSource};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;

use crate::format::blocks::BlockType;
use crate::format::element::Element;

/// Invocations per workgroup, as the shader declares.
const WORKGROUP: u32 = 64;

/// Workgroups per dimension that every implementation grants.
const MAX_WORKGROUPS: u32 = 65_535;

/// Rows of a matrix on a GPU, in their stored form.
#[derive(Debug, Clone)]
pub struct StoredRows {
    element: Element,
    shape: [usize; 2],
    words: Tensor<1, Int>,
}

impl StoredRows {
    /// Uploads rows of `shape` `[n, width]`. Returns `None` if no shader decodes `element`, or if the rows
    /// are not a whole number of the shader's groups.
    pub fn upload(element: Element, bytes: &[u8], shape: [usize; 2], device: &Device) -> Option<Self> {
        let shader = Shader::of(element)?;
        let values = shape[0] * shape[1];
        if !values.is_multiple_of(shader.group) {
            return None;
        }
        let n_groups = i32::try_from(values / shader.group).ok()?;
        let (whole, rest) = bytes.as_chunks::<4>();
        let mut words = Vec::with_capacity(whole.len() + 2);
        words.push(n_groups);
        words.extend(whole.iter().map(|word| i32::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 4];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            words.push(i32::from_le_bytes(last));
        }
        let n_words = words.len();
        let words = Tensor::from_data(TensorData::new(words, [n_words]), device);
        Some(Self { element, shape, words })
    }

    /// Decodes the rows to an `f32` tensor `[n, width]`.
    pub fn decode(&self) -> Tensor<2> {
        let words = self.words.clone().into_dispatch();
        Tensor::from_dispatch(<Dispatch as Dequantise>::dequantise(words, self.element, self.shape))
    }
}

/// WGSL shader that decodes one element type.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// Number of weights that an invocation decodes.
    pub group: usize,
    parts: &'static [&'static str],
}

impl Shader {
    /// Returns the shader that decodes `element`; `None` for `F32`, which needs no decoding.
    pub fn of(element: Element) -> Option<Self> {
        let parts: &'static [&'static str] = match element {
            Element::F32 => return None,
            Element::F16 => &[include_str!("f16.wgsl")],
            Element::Bf16 => &[include_str!("bf16.wgsl")],
            Element::Block(block) => match block {
                BlockType::Q4_0 => &[include_str!("q4_0.wgsl")],
                BlockType::Q4_1 => &[include_str!("q4_1.wgsl")],
                BlockType::Q5_0 => &[include_str!("q5_0.wgsl")],
                BlockType::Q5_1 => &[include_str!("q5_1.wgsl")],
                BlockType::Q8_0 => &[include_str!("q8_0.wgsl")],
                BlockType::Q2K => &[include_str!("q2_k.wgsl")],
                BlockType::Q3K => &[include_str!("q3_k.wgsl")],
                BlockType::Q4K => &[include_str!("q4_k.wgsl"), include_str!("scales.wgsl")],
                BlockType::Q5K => &[include_str!("q5_k.wgsl"), include_str!("scales.wgsl")],
                BlockType::Q6K => &[include_str!("q6_k.wgsl")],
                BlockType::Iq4Nl => &[include_str!("iq4_nl.wgsl"), include_str!("iq4.wgsl")],
                BlockType::Iq4Xs => &[include_str!("iq4_xs.wgsl"), include_str!("iq4.wgsl")],
                BlockType::Mxfp4 => &[include_str!("mxfp4.wgsl")],
            },
        };
        let group = match element {
            Element::Block(BlockType::Q2K | BlockType::Q3K | BlockType::Q6K) => 16,
            _ => 32,
        };
        Some(Self { group, parts })
    }

    /// Returns the complete WGSL source.
    pub fn source(self) -> String {
        [self.words(), include_str!("decode.wgsl").to_owned()].join("\n")
    }

    /// Returns the WGSL source of what reads single weights.
    fn words(self) -> String {
        let parts = self.parts.iter().chain(&[include_str!("words.wgsl")]);
        parts.copied().collect::<Vec<_>>().join("\n")
    }
}

/// Backend extension that teaches burn to decode stored weights on the device.
#[backend_extension(Cube)]
pub trait Dequantise: Backend {
    /// Decodes the words of [`StoredRows`] to an `f32` matrix of `shape` `[n, width]`.
    fn dequantise(words: IntTensor<Self>, element: Element, shape: [usize; 2]) -> FloatTensor<Self>;
}

impl Dequantise for Cube {
    fn dequantise(words: IntTensor<Self>, element: Element, shape: [usize; 2]) -> FloatTensor<Self> {
        let client = words.client.clone();
        let weights = empty_device_contiguous_dtype(
            client.clone(),
            words.device.clone(),
            Shape::from(shape),
            DType::F32,
        );
        let group = Shader::of(element).map_or(1, |shader| shader.group);
        let workgroups = (shape[0] * shape[1] / group).div_ceil(WORKGROUP as usize);
        let workgroups = u32::try_from(workgroups).unwrap_or(u32::MAX).max(1);
        let across = workgroups.min(MAX_WORKGROUPS);
        client.launch(
            Box::new(Kernel::Decode(element)),
            CubeCount::Static(across, workgroups.div_ceil(across), 1),
            KernelArguments::new()
                .with_buffer(words.handle.clone().binding())
                .with_buffer(weights.handle.clone().binding()),
        );
        weights
    }
}

/// Shader in the form that the CubeCL runtime takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kernel {
    /// Decodes weights that are stored as the element type says.
    Decode(Element),
    /// Multiplies by such weights, by a tile.
    Product(Element, product::Tile),
}

impl KernelMetadata for Kernel {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for Kernel {
    fn define(&self) -> KernelDefinition {
        let invocations = match self {
            Self::Decode(_) => WORKGROUP,
            Self::Product(_, tile) => tile.invocations(),
        };
        let settings =
            KernelSettings::new(CubeDim::new_1d(invocations).0, ExecutionMode::Checked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        let source = match self {
            Self::Decode(element) => Shader::of(*element)?.source(),
            Self::Product(element, tile) => tile.source(*element),
        };
        Some(PrecompiledSource { source, entrypoint_name: "main".to_owned(), lang: "wgsl" })
    }
}
