//! Choice of the device for arithmetic: a GPU through wgpu, or the CPU through SIMD.

#[cfg(feature = "gpu")]
mod check;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::{panels, threads};
use crate::{Error, Result};

/// Size of a storage-buffer binding that every WebGPU implementation grants, in bytes.
pub const GUARANTEED_BINDING_BYTES: u64 = 128 << 20;

/// Device that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "DevicePreference"))]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// A hardware GPU if there is one, else the CPU. A GPU emulated in software is not used, because it is
    /// slower than the CPU.
    #[default]
    Auto,
    /// A GPU, even if emulated in software; an error if no GPU can be used.
    Gpu,
    /// The CPU.
    Cpu,
}

impl std::str::FromStr for Preference {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Preference::Auto),
            "gpu" => Ok(Preference::Gpu),
            "cpu" => Ok(Preference::Cpu),
            _ => Err(Error::Usage(format!("device {name} is not auto, gpu or cpu"))),
        }
    }
}

/// Kind of device that runs the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeviceKind {
    /// A hardware GPU.
    Gpu,
    /// A GPU emulated on the CPU, such as SwiftShader.
    SoftwareGpu,
    /// SIMD on the CPU.
    Cpu,
}

/// Description of the chosen device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[non_exhaustive]
pub struct DeviceReport {
    /// Kind of the device.
    pub kind: DeviceKind,
    /// Name of the device as the driver gives it.
    pub name: String,
    /// Reason why the device was chosen.
    pub reason: String,
    /// Number of threads of the processor that share large products and sums, at least 1.
    #[cfg_attr(test, ts(as = "Option<usize>", optional))]
    pub threads: usize,
    /// Why that is one thread only, in words after "because"; `None` where it is not, or is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub alone: Option<String>,
    /// Largest storage-buffer binding that is used, in bytes; 0 on the CPU, which has no such limit.
    pub max_binding_bytes: u64,
}

/// Device that is ready for tensors.
#[derive(Debug, Clone)]
pub struct Accelerator {
    device: Device,
    report: DeviceReport,
    tally: Arc<Tally>,
}

/// Counts of the work done on a device, taken where the work is done. Estimates are compared with these
/// counts.
#[derive(Debug, Default)]
pub struct Tally {
    uploads: AtomicU64,
    attention: AtomicU64,
    mlp: AtomicU64,
    head: AtomicU64,
}

impl Tally {
    /// Counts a layer that was taken to the device.
    pub fn add_upload(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `tokens` tokens that went through the attention of a layer.
    pub fn add_attention(&self, tokens: usize) {
        self.attention.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Counts `tokens` tokens that went through the MLP of a layer.
    pub fn add_mlp(&self, tokens: usize) {
        self.mlp.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Counts products of `tokens` tokens with `rows` rows of the head.
    pub fn add_head(&self, tokens: usize, rows: usize) {
        self.head.fetch_add((tokens * rows) as u64, Ordering::Relaxed);
    }

    /// Returns the number of layers taken to the device.
    pub fn uploads(&self) -> u64 {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Returns the number of tokens that went through the attention of a layer, summed over layers.
    pub fn attention(&self) -> u64 {
        self.attention.load(Ordering::Relaxed)
    }

    /// Returns the number of tokens that went through the MLP of a layer, summed over layers.
    pub fn mlp(&self) -> u64 {
        self.mlp.load(Ordering::Relaxed)
    }

    /// Returns the number of products of a token with a row of the head.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }
}

/// Reads the numbers of a tensor of any device.
///
/// # Errors
/// The first line of what the device says: drivers answer in paragraphs.
pub async fn read<const D: usize>(tensor: Tensor<D>) -> std::result::Result<Vec<f32>, String> {
    let first = |said: String| said.lines().next().unwrap_or_default().chars().take(160).collect::<String>();
    let data = tensor.into_data_async().await.map_err(|e| first(format!("{e:?}")))?;
    data.try_into_vec::<f32>().map_err(|e| first(format!("{e:?}")))
}

impl Accelerator {
    /// Returns the CPU, which is always available. `reason` says in the report why it was chosen.
    pub fn cpu(reason: impl Into<String>) -> Self {
        // The name is that of what rounds in one way: the bits do not depend on the number of threads.
        let name = match (cfg!(target_arch = "wasm32"), panels::are_fused()) {
            (true, true) => "CPU (wasm SIMD with fused multiply-adds)",
            (true, false) => "CPU (wasm SIMD)",
            (false, _) => "CPU (SIMD)",
        };
        Self {
            device: Device::flex(),
            report: DeviceReport {
                kind: DeviceKind::Cpu,
                name: name.to_owned(),
                reason: reason.into(),
                threads: threads::count(),
                alone: None,
                max_binding_bytes: 0,
            },
            tally: Arc::default(),
        }
    }

    /// Says in the report `why` there is one thread only, in words after "because".
    pub fn alone(&mut self, why: String) {
        self.report.alone = Some(why);
    }

    /// Chooses a device by `preference`. A GPU is used if its answers to a few questions are right (`check`), and, where
    /// the choice is ours, if it multiplies faster than the CPU. Falls back to the CPU only for [`Preference::Auto`].
    ///
    /// # Errors
    /// [`Error::Device`] for [`Preference::Gpu`] if no GPU can be used.
    pub async fn choose(preference: Preference) -> Result<Self> {
        if preference == Preference::Cpu {
            return Ok(Self::cpu("you chose the CPU"));
        }
        let found = match Self::gpu().await {
            Ok(gpu) if preference == Preference::Auto && gpu.report.kind == DeviceKind::SoftwareGpu => {
                return Ok(Self::cpu(format!(
                    "the only GPU here is {}, which is emulated in software and slower than the CPU",
                    gpu.report.name
                )));
            }
            Ok(gpu) => {
                let name = gpu.report.name.clone();
                gpu.checked(preference).await.map_err(|why| format!("{name} {why}"))
            }
            Err(why) => Err(why),
        };
        match (found, preference) {
            (Ok(gpu), _) => Ok(gpu),
            (Err(why), Preference::Gpu) => {
                Err(Error::Device(format!("no GPU can be used ({why}); choose the CPU")))
            }
            (Err(why), _) => Ok(Self::cpu(format!("no GPU can be used: {why}"))),
        }
    }

    #[cfg(not(feature = "gpu"))]
    async fn checked(self, _: Preference) -> std::result::Result<Self, String> {
        Ok(self)
    }

    /// Checks the answers of this GPU, chooses how it multiplies, and checks whether it is faster than the CPU if `preference`
    /// leaves the choice. The error is what is wrong with it, in words after its name.
    #[cfg(feature = "gpu")]
    async fn checked(mut self, preference: Preference) -> std::result::Result<Self, String> {
        let kind = self.report.kind;
        let patience = match kind {
            DeviceKind::SoftwareGpu => check::PATIENCE_WITH_SOFTWARE,
            _ => check::PATIENCE,
        };
        check::answers_rightly(&self.device, patience).await?;
        let on_cpu = match preference {
            Preference::Auto => Some(check::seconds_on_cpu(kind)?),
            _ => None,
        };
        let chosen = check::choose_products(&self.device, kind, patience, on_cpu).await?;
        if let Some(tile) = chosen.tile {
            let inside =
                if chosen.fused_below > 0 { ", decoding weights for few tokens in them" } else { "" };
            self.report.reason += &format!("; it multiplies fastest by our own tiles of {tile}{inside}");
            // Sums in another order are other bits.
            self.report.name += " (own tiles)";
        }
        Ok(self)
    }

    #[cfg(not(feature = "gpu"))]
    async fn gpu() -> std::result::Result<Self, String> {
        Err("this program was built without support for GPUs".to_owned())
    }

    #[cfg(feature = "gpu")]
    async fn gpu() -> std::result::Result<Self, String> {
        if !adapter_exists().await {
            return Err(NO_ADAPTER.to_owned());
        }
        let options = Device::wgpu_options();
        // The runtime's own error is the text of a structure, which says nothing to a user.
        let started = options.init_with_setup_async().await;
        let (device, setup) = started.map_err(|_| "no graphics adapter could be started".to_owned())?;
        let info = setup.adapter.get_info();
        let software = info.device_type == burn::tensor::wgpu::wgpu::DeviceType::Cpu
            || ["swiftshader", "llvmpipe", "lavapipe", "basic render"]
                .iter()
                .any(|name| format!("{} {}", info.name, info.driver).to_lowercase().contains(name));
        let name = [info.name, info.driver, browser_name(&setup)].into_iter().find(|s| !s.trim().is_empty());
        let limit = setup.device.limits().max_storage_buffer_binding_size;
        Ok(Self {
            device,
            report: DeviceReport {
                kind: if software { DeviceKind::SoftwareGpu } else { DeviceKind::Gpu },
                name: name.unwrap_or_else(|| "unnamed GPU".to_owned()),
                reason: "a graphics adapter was found".to_owned(),
                threads: threads::count(),
                alone: None,
                max_binding_bytes: limit.min(GUARANTEED_BINDING_BYTES),
            },
            tally: Arc::default(),
        })
    }

    /// Returns burn's device, on which tensors are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the description of the device.
    pub fn report(&self) -> &DeviceReport {
        &self.report
    }

    /// Returns the counts of the work done on the device so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Returns the largest single upload in bytes; `u64::MAX` if the device has no limit.
    pub fn max_binding_bytes(&self) -> u64 {
        match self.report.max_binding_bytes {
            0 => u64::MAX,
            limit => limit,
        }
    }
}

/// Returns what a browser tells of an adapter whose description it withholds: vendor and architecture, such
/// as "nvidia turing".
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
fn browser_name(setup: &burn::tensor::wgpu::WgpuSetup) -> String {
    let info = setup.device.as_webgpu().map(|device| device.adapter_info());
    let parts = info.map(|info| [info.vendor(), info.architecture()]).unwrap_or_default();
    parts.join(" ").trim().to_owned()
}

#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
fn browser_name(_: &burn::tensor::wgpu::WgpuSetup) -> String {
    String::new()
}

/// The reason where there is no adapter.
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
const NO_ADAPTER: &str = "this browser offers no WebGPU";
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
const NO_ADAPTER: &str = "there is no graphics adapter";

/// Returns whether the browser offers WebGPU.
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
async fn adapter_exists() -> bool {
    use js_sys::Reflect;
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    let gpu = navigator.and_then(|navigator| Reflect::get(&navigator, &"gpu".into()));
    gpu.is_ok_and(|gpu| !gpu.is_undefined() && !gpu.is_null())
}

/// Returns whether there is any adapter. The check comes before the runtime's start, which panics without
/// one.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
async fn adapter_exists() -> bool {
    use burn::tensor::wgpu::wgpu;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    !instance.enumerate_adapters(wgpu::Backends::all()).await.is_empty()
}
